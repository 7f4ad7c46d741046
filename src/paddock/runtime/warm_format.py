"""The lines that a warm command is sent, and the answer that it mostly gives: see docs/reference/warm-protocol.md."""

from __future__ import annotations

import json
from collections.abc import Sequence

from paddock.runtime.protocol import BatchTask, DatumTask
from paddock.runtime.worker_environment import datum_variables, input_path

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_Input = tuple[str, str, Sequence[str]]
"""Name, path, and the paths of all files."""
_ESCAPED = bytes(range(0x20)) + b"\\"
"""What JSON writes in another way, beside the quotation mark."""
_QUOTES, _INPUT_QUOTES, _VARIABLE_QUOTES, _FILE_QUOTES = 16, 10, 4, 2
"""Quotation marks of a line that are not in a text, and what each input, variable and file adds."""


def task_line(batch: BatchTask, datum: DatumTask, pfs: str) -> bytes:
    """One datum as one line. Fields come in this order; `in` is the path of the first input."""
    inputs: list[_Input] = [
        (each.name, input_path(each, pfs), [f"{pfs}/{each.name}{file.path}" for file in each.files])
        for each in datum.inputs
    ]
    variables = datum_variables(batch, datum, pfs)
    first = inputs[0][1] if inputs else pfs
    line = _plain_line(datum.id, first, f"{pfs}/out", inputs, variables)
    quotes = _QUOTES + _VARIABLE_QUOTES * len(variables) + _INPUT_QUOTES * len(inputs)
    quotes += _FILE_QUOTES * sum([len(files) for _, _, files in inputs])
    data = line.encode("utf-8", "surrogateescape")
    if data.count(b'"') != quotes or len(data.translate(None, _ESCAPED)) != len(data):
        line = _encode(
            {
                "id": datum.id,
                "in": first,
                "out": f"{pfs}/out",
                "inputs": [{"name": name, "path": path, "files": files} for name, path, files in inputs],
                "env": variables,
            }
        )
        data = line.encode("utf-8", "surrogateescape")
    return data + b"\n"


def done_lines(id: str) -> tuple[bytes, bytes]:
    """The line that answers a datum that went well, as JSON libraries write it: it is known without being parsed."""
    name = id.encode()
    return b'{"id": "%b", "ok": true}\n' % name, b'{"id":"%b","ok":true}\n' % name


def _plain_line(id: str, first: str, out: str, inputs: Sequence[_Input], variables: dict[str, str]) -> str:
    """The line if no text in it needs an escape: it is made for each datum, and the encoder takes four times as long."""
    rows = ",".join([f'{{"name":"{name}","path":"{path}","files":[{_texts(files)}]}}' for name, path, files in inputs])
    env = ",".join([f'"{name}":"{value}"' for name, value in variables.items()])
    return f'{{"id":"{id}","in":"{first}","out":"{out}","inputs":[{rows}],"env":{{{env}}}}}'


def _texts(texts: Sequence[str]) -> str:
    return f'"{texts[0]}"' if len(texts) == 1 else ",".join([f'"{text}"' for text in texts])
