"""Runs a Python function on datums: `python -m paddock.functions.runner MODULE:FUNCTION`, started warm by a worker.

Speaks the warm protocol, with frames where the function takes contents and no paths.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from paddock.functions.environment import check_environment
from paddock.functions.loading import load_function
from paddock.functions.values import Element, Signature, arguments, result_files, signature_of
from paddock.model.errors import PaddockError

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Runner:
    def __init__(self, function: Callable[..., Any], signature: Signature, tasks: BinaryIO, answers: BinaryIO) -> None:
        self._function = function
        self._signature = signature
        self._tasks = tasks
        self._answers = answers
        self._output = _Output()

    def run(self) -> None:
        """Answer datums until the end of file."""
        self._say({"ready": True} if self._signature.needs_disk else {"ready": True, "frames": 1})
        for line in self._tasks:
            document = json.loads(line)
            if "frame" in document:
                self._run_frame(document)
            else:
                self._run_line(document)

    def _run_line(self, document: dict[str, Any]) -> None:
        self._output.give_back()
        out = Path(document["out"])
        pfs = str(out.parent)
        elements = [
            Element(
                each["name"],
                _in_repo(each["path"], pfs, each["name"]),
                [(_in_repo(path, pfs, each["name"]), Path(path)) for path in each["files"]],
                Path(each["path"]),
            )
            for each in document["inputs"]
        ]
        error, files = self._call(elements, out)
        error = error or _write(out, files)
        self._say({"id": document["id"], "error": error} if error else {"id": document["id"], "ok": True})

    def _run_frame(self, document: dict[str, Any]) -> None:
        content = self._tasks.read(document["bytes"])
        self._output.take_over()
        position = 0
        answers: list[dict[str, Any]] = []
        contents: list[bytes] = []
        for id, inputs in document["frame"]:
            elements = []
            for name, path, rows in inputs:
                files: list[tuple[str, bytes | Path]] = []
                for file, size in rows:
                    files.append((file, content[position : position + size]))
                    position += size
                elements.append(Element(name, path, files, None))
            begin = time.perf_counter()
            error, made = self._call(elements, None)
            answer: dict[str, Any] = {"id": id, "seconds": round(time.perf_counter() - begin, 7)}
            if error:
                answer["error"] = error
            else:
                answer["ok"] = True
                answer["files"] = [(path, len(data)) for path, data in made]
                contents += [data for _, data in made]
            if log := self._output.taken():
                answer["log"] = len(log)
                contents.append(log)
            answers.append(answer)
        self._say({"frame": answers, "bytes": sum(map(len, contents))}, contents)

    def _call(self, elements: list[Element], out: Path | None) -> tuple[str, list[tuple[str, bytes]]]:
        """Why the function failed, or its files."""
        try:
            values = arguments(self._signature, elements)
            if self._signature.wants_out:
                values["out"] = out
            files = result_files(self._function(**values), elements[0].path if elements else "/")
        except Exception as error:  # noqa: BLE001 - whatever user code raises is its datum's failure
            traceback.print_exc()
            files = []
            reason = f"{type(error).__name__}: {error}"
        else:
            reason = ""
        sys.stdout.flush()
        sys.stderr.flush()
        return reason, files

    def _say(self, document: dict[str, Any], contents: list[bytes] | None = None) -> None:
        self._answers.write(_encode(document).encode("utf-8", "surrogateescape") + b"\n" + b"".join(contents or ()))
        self._answers.flush()


def _write(out: Path, files: list[tuple[str, bytes]]) -> str:
    """Write results; why that was not possible, or nothing."""
    for path, content in files:
        target = out / path.lstrip("/")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        except OSError as error:
            return f"its result {path} can't be written: {error.strerror}"
    return ""


def _in_repo(path: str, pfs: str, name: str) -> str:
    return path[len(pfs) + 1 + len(name) :] or "/"


class _Output:
    """Standard output and error, which are led into memory for frames, so that what each of their datums prints can be told apart."""

    def __init__(self) -> None:
        self._log = -1
        self._own: tuple[int, int] = (-1, -1)
        self._taken = False

    def take_over(self) -> None:
        if self._taken:
            return
        if self._log < 0:
            self._log = os.memfd_create("paddock-log", os.MFD_CLOEXEC)
            self._own = os.dup(1), os.dup(2)
        os.dup2(self._log, 1)
        os.dup2(self._log, 2)
        self._taken = True

    def give_back(self) -> None:
        """Lead them to the worker again, which knows whose line it is that prints."""
        if self._taken:
            os.dup2(self._own[0], 1)
            os.dup2(self._own[1], 2)
            self._taken = False

    def taken(self) -> bytes:
        """What was printed since it was last asked for."""
        size = os.lseek(self._log, 0, os.SEEK_CUR)
        if not size:
            return b""
        data = os.pread(self._log, size, 0)
        os.ftruncate(self._log, 0)
        os.lseek(self._log, 0, os.SEEK_SET)
        return data


def main(words: list[str]) -> int:
    if len(words) != 1 or "PADDOCK_WARM_IN" not in os.environ:
        sys.stderr.write("usage: a worker runs python -m paddock.functions.runner MODULE:FUNCTION\n")
        return 2
    sys.path.insert(0, str(Path.cwd()))
    try:
        check_environment(Path.cwd())
        function = load_function(words[0])
    except PaddockError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with (
        os.fdopen(int(os.environ["PADDOCK_WARM_IN"]), "rb", buffering=1 << 20) as tasks,
        os.fdopen(int(os.environ["PADDOCK_WARM_OUT"]), "wb", buffering=1 << 16) as answers,
    ):
        Runner(function, signature_of(function), tasks, answers).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
