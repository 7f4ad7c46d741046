"""The lines that a warm command is sent: see docs/reference/warm-protocol.md."""

from __future__ import annotations

import json

from paddock.runtime.protocol import BatchTask, DatumTask
from paddock.runtime.worker_environment import datum_variables, input_path

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def task_line(batch: BatchTask, datum: DatumTask, pfs: str) -> bytes:
    """One datum as one line. Fields come in this order; `in` is the path of the first input."""
    document = {
        "id": datum.id,
        "in": input_path(datum.inputs[0], pfs) if datum.inputs else pfs,
        "out": f"{pfs}/out",
        "inputs": [
            {
                "name": each.name,
                "path": input_path(each, pfs),
                "files": [f"{pfs}/{each.name}{file.path}" for file in each.files],
            }
            for each in datum.inputs
        ],
        "env": datum_variables(batch, datum, pfs),
    }
    return _encode(document).encode("utf-8", "surrogateescape") + b"\n"
