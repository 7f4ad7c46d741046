"""Commands in images, by a stand-in for Apptainer: a program that notes its arguments and runs the command where it is.

Apptainer itself is not in Debian; what it would be asked to do is what these tests can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from paddock.model.errors import InvalidInput
from paddock.model.records import DatumState
from paddock.runtime.image_commands import Image, find_image
from paddock.testing.workers import WorkerHarness, shell

_STAND_IN = """#!/bin/sh
echo "$@" >> {notes}
[ "$1" = exec ] || exit 255
shift
while [ "${{1#--}}" != "$1" ]; do
    case $1 in --bind) shift 2;; --pwd) cd "$2"; shift 2;; *) shift;; esac
done
[ "$1" = "{image}" ] || {{ echo "FATAL: no image $1" >&2; exit 255; }}
shift
export IMAGE=here PATH="${{APPTAINERENV_PATH:-$PATH}}"
exec "$@"
"""


class Engine:
    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes"
        self.program = folder / "apptainer"
        self.program.write_text(_STAND_IN.format(notes=self._notes, image="docker://debian:13"))
        self.program.chmod(0o755)

    def asked(self) -> list[str]:
        return self._notes.read_text().splitlines()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


@pytest.fixture(params=["auto", "directory"])
def worker(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[WorkerHarness]:
    options = Image(str(engine.program), "docker://debian:13", ("--nv",)).words()
    with WorkerHarness(tmp_path / "worker", sandbox=request.param, options=options) as harness:
        yield harness


def test_a_command_runs_in_its_image_with_its_files(worker: WorkerHarness, engine: Engine) -> None:
    script = 'cat "$in" > $PADDOCK_PFS/out/copy; echo "$IMAGE $PWD $A"'
    batch = worker.run(shell(script, env={"A": "b"}), [worker.file_datum(b"one"), worker.file_datum(b"two", "/b")])
    assert [datum.files for datum in batch.datums] == [{"/copy": b"one"}, {"/copy": b"two"}]
    assert batch.datums[0].log == b"here / b\n"
    pfs = "/pfs" if worker.ready.sandbox == "namespaces" else f"{worker.scratch}/pfs"
    words = f"exec --bind {pfs}:/pfs --bind {worker.scratch} --pwd / --nv docker://debian:13 /bin/sh -c {script}"
    assert engine.asked() == [words, words]


def test_what_fails_in_it_fails_as_anywhere(worker: WorkerHarness) -> None:
    (datum,) = worker.run(shell("echo oh no; exit 3"), [worker.file_datum(b"x")]).datums
    assert (datum.state, datum.exit_code) == (DatumState.FAILED, 3)
    assert datum.reason.endswith("ended with exit code 3: oh no")


def test_the_path_of_a_pipeline_is_that_of_its_container(worker: WorkerHarness) -> None:
    task = shell("echo $PATH", env={"PATH": "/opt/bin:/usr/bin:/bin"})
    (datum,) = worker.run(task, [worker.file_datum(b"x")]).datums
    assert datum.log == b"/opt/bin:/usr/bin:/bin\n"


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("debian:13", "docker://debian:13"),
        ("registry.example:5000/a/b@sha256:0", "docker://registry.example:5000/a/b@sha256:0"),
        ("oras://a/b", "oras://a/b"),
        ("/images/a.sif", "/images/a.sif"),
        ("./folder", "./folder"),
        ("a.sif", "a.sif"),
    ],
)
def test_how_images_are_named(engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str, taken: str) -> None:
    monkeypatch.setenv("PATH", str(engine.program.parent))
    assert find_image(name, ["--nv"]) == Image(str(engine.program), taken, ("--nv",))


def test_a_host_without_a_container_engine_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput, match=r"neither apptainer nor singularity is in PATH; .*\(slurm.setup\)"):
        find_image("debian:13", [])
