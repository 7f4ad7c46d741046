"""What a warm command is sent and mostly answers, and that a message taken in beside it is not forgotten."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from paddock.model.ids import DatumId, DatumKey
from paddock.runtime.protocol import BatchTask, DatumTask, FileTask
from paddock.runtime.warm_format import done_lines, task_line
from paddock.runtime.worker_environment import datum_variables
from paddock.testing.workers import JOB, input_of

ID = DatumId("00112233445566778899aabbccddeeff")
NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=5)
"""Among them quotes, backslashes, line ends, what is not printable, and half of a surrogate pair."""


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=3))
def test_a_line_is_the_document_of_its_datum(named: dict[str, list[str]]) -> None:
    inputs = tuple(
        input_of(name, "/", *(FileTask(f"/{file}", 0, False, ()) for file in files)) for name, files in named.items()
    )
    datum = DatumTask(ID, DatumKey(bytes(32)), inputs)
    batch = BatchTask("lease", JOB, JOB, "t", (datum,))
    document: dict[str, Any] = {
        "id": ID,
        "in": f"/pfs/{inputs[0].name}" if inputs else "/pfs",
        "out": "/pfs/out",
        "inputs": [
            {"name": name, "path": f"/pfs/{name}", "files": [f"/pfs/{name}/{file}" for file in files]}
            for name, files in named.items()
        ],
        "env": datum_variables(batch, datum, "/pfs"),
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # Python takes half a surrogate pair for a byte that is no UTF-8; what stands for no byte can't be a file's name.
    try:
        expected = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return
    assert task_line(batch, datum, "/pfs") == expected + b"\n"


def test_the_answer_that_is_known_is_that_of_json_libraries() -> None:
    document = {"id": ID, "ok": True}
    assert done_lines(ID) == (
        json.dumps(document).encode() + b"\n",
        json.dumps(document, separators=(",", ":")).encode() + b"\n",
    )


RUN = """
import os
from paddock.runtime.commands import LocalCommands, Workplace
from paddock.runtime.process import ProcessRunner
from paddock.runtime.sandbox import adopt_orphans
from paddock.runtime.worker_logs import DatumLog

class Beating:
    poll_fd = os.pipe()[0]  # nothing can be read there: it was taken in already
    def look(self): return False
    def beat(self): return True

adopt_orphans()
runner = ProcessRunner(Beating(), LocalCommands(owns_namespace=False), grace_seconds=5, beat_seconds=0.01)
print(runner.run(["sleep", "600"], os.environb, Workplace("/"), stdin=None, timeout_seconds=None, log=DatumLog()).cancelled)
"""


def test_a_cancel_that_a_heartbeat_has_read_ends_the_command() -> None:
    ended = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout, ended.stderr) == ("True\n", "")
