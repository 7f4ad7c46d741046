"""A full disk under the home: a clear message, nothing lost, and work goes on once there is room. On a small tmpfs, which
the test mounts in a namespace of its own."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from paddock.model.errors import LimitExceeded
from paddock.storage.network_objects import SINGLE_BYTES_MAX, NetworkObjects

NAMESPACE = ["unshare", "--map-root-user", "--mount"] if os.getuid() else ["unshare", "--mount"]
DISK_BYTES = 6 << 20
SCRIPT = """
set -u
mount -t tmpfs -o size={size} paddock-test "$1" || exit 99
cd "$1"
paddock() {{ "{python}" -m paddock --home "$1/home" "${{@:2}}"; }}
run() {{ "{python}" -m paddock --home home map source -o target --json -- cp '{{in}}' '{{out}}/' >> "$2/out" 2>> "$2/err"; echo $? >> "$2/codes"; }}
mkdir source
for n in 1 2 3; do head -c 200000 /dev/urandom > source/f$n; done
run . "$2"
head -c {size} /dev/zero > filler 2> /dev/null
rm source/f1; ln -s f2 source/f4 2> /dev/null
run . "$2"
rm filler
run . "$2"
ls target > "$2/names"
"{python}" -m paddock --home home ls "map/$("{python}" -m paddock --home home pipeline list --json | "{python}" -c 'import json,sys; print(json.load(sys.stdin)[0]["name"])')@main:/" --json > "$2/listing"
"""


def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    disk, notes = tmp_path / "disk", tmp_path / "notes"
    disk.mkdir()
    notes.mkdir()
    script = SCRIPT.format(size=DISK_BYTES, python=sys.executable)
    done = subprocess.run([*NAMESPACE, "bash", "-c", script, "bash", str(disk), str(notes)], check=False)
    if done.returncode == 99:
        pytest.skip("this system forbids mounting a tmpfs in a namespace")
    codes = [int(line) for line in (notes / "codes").read_text().split()]
    errors = (notes / "err").read_text()
    assert codes[0] == codes[2] == 0, errors
    assert codes[1] != 0
    assert re.search("no space left|the disk is full", errors)
    assert "Traceback" not in errors
    assert (notes / "names").read_text().split() == ["f2", "f3", "f4"]
    assert [file["path"] for file in json.loads((notes / "listing").read_text())] == ["/f2", "/f3", "/f4"]


@pytest.mark.parametrize("more_bytes", [100, 1 << 20], ids=["held back", "at once"])
def test_a_full_disk_under_what_is_on_its_way_to_a_store(tmp_path: Path, more_bytes: int) -> None:
    """Large objects wait in a temporary file, whose last bytes are written late."""
    objects = NetworkObjects(MemoryStore(), "memory://")
    writer = objects.create("large")
    writer.write(bytes(SINGLE_BYTES_MAX + 1))

    def rest() -> None:
        writer.write(bytes(more_bytes))
        writer.finish()

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SINGLE_BYTES_MAX + 1, before[1]))  # Python ignores the signal
    try:
        with pytest.raises(LimitExceeded, match=r"can't write .*the file would be larger"):
            rest()
        writer.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not objects.exists("large")
