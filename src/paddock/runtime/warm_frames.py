"""Frames: many datums with their contents, and their results, in one exchange (docs/reference/warm-protocol.md)."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from paddock.model.addresses import check_path
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.runtime.batch_format import OutputFile
from paddock.runtime.collect import ChunkSink, OutputError
from paddock.runtime.materialize import ReadChunk, file_content
from paddock.runtime.protocol import DatumTask
from paddock.runtime.warm_process import Frame
from paddock.storage.chunking import EMPTY_DIGEST

FRAME_BYTES_MAX = 4 << 20
FRAME_DATUMS_MAX = 256
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """What a frame's answer says of one datum. error: empty where it went well. seconds: None if it does not say."""

    error: str
    seconds: float | None
    files: tuple[tuple[str, memoryview], ...]
    log: bytes


def content_bytes(datum: DatumTask) -> int:
    """Bytes of the datum's input files, as a frame would hold them."""
    return sum(file.size for each in datum.inputs if not each.empty_files for file in each.files)


def frame_task(datums: Sequence[DatumTask], read_chunk: ReadChunk) -> bytes:
    """The frame of some datums. Raises what `read_chunk` raises."""
    contents: list[bytes | memoryview] = []
    rows = []
    for datum in datums:
        inputs = []
        for each in datum.inputs:
            files = []
            for file in each.files:
                files.append((file.path, 0 if each.empty_files else file.size))
                if not each.empty_files:
                    contents += file_content(file, read_chunk)
            inputs.append((each.name, each.path, files))
        rows.append((datum.id, inputs))
    size = sum(map(len, contents))
    return b"".join((_encode({"frame": rows, "bytes": size}).encode("utf-8"), b"\n", *contents))


def frame_answers(frame: Frame, datums: Sequence[DatumTask]) -> list[FrameAnswer] | str:
    """The answers in the order of the datums, or what is wrong with them."""
    answers: list[FrameAnswer] = []
    position = 0

    def take(size: object) -> memoryview:
        nonlocal position
        if not isinstance(size, int) or size < 0 or position + size > len(frame.content):
            raise ValueError("its sizes do not add up to the bytes that it sent")
        position += size
        return frame.content[position - size : position]

    try:
        for document, datum in zip(frame.documents, datums, strict=True):
            if document.get("id") != datum.id:
                return f"it answered a frame for datum {str(document.get('id'))[:80]!r} instead of {datum.id}"
            error = document.get("error", "") if document.get("ok") is not True else ""
            if document.get("ok") is not True and not error:
                return "an answer in its frame has neither `ok: true` nor a text `error`"
            files = tuple((str(path), take(size)) for path, size in document.get("files", ()))
            seconds = document.get("seconds")
            log = bytes(take(document.get("log", 0)))
            answers.append(FrameAnswer(str(error), seconds if isinstance(seconds, float) else None, files, log))
    except (ValueError, TypeError, AttributeError) as fault:
        return f"its frame can't be read: {fault}"
    return answers


def store_files(files: Sequence[tuple[str, memoryview]], sink: ChunkSink) -> tuple[OutputFile, ...]:
    """Store results that came in a frame, in path order. OutputError: a path that a file system would not have."""
    names = sorted(path for path, _ in files)
    for name in names:
        try:
            canonical = check_path(name) == name != "/"
        except InvalidInput:
            canonical = False
        if not canonical:
            raise OutputError(f"{name[:200]!r} can't be the path of an output; write for example /dir/name.txt")
    for name in names if len(names) > 1 else ():
        parent = name
        while parent := parent.rpartition("/")[0]:
            if parent in names:
                raise OutputError(f"/pfs/out{parent} is a file and a directory (of {name}) at once")
    if len(set(names)) < len(names):
        raise OutputError("it gives one output path twice")
    return tuple(_store(path, content, sink) for path, content in sorted(files, key=lambda file: file[0]))


def _store(path: str, content: memoryview, sink: ChunkSink) -> OutputFile:
    if len(content) <= sink.chunking.min_bytes:
        data = bytes(content)
        return OutputFile(path, len(data), sink.put(data) if data else EMPTY_DIGEST, False, ())
    stored = sink.put_stream(io.BytesIO(content))
    return OutputFile(path, stored.size, stored.digest, False, stored.chunks)
