"""What an engine and a worker say to each other: one JSON document per line, over a stream socket.

    up:    Ready, then Claim … Heartbeat … BatchReport …
    down:  TransformTask (once per worker and transform, before its first batch), BatchTask, Trim, Cancel,
    Rest, Drain, Stop

A worker that wants work sends Claim and gets one BatchTask for it, as soon as there is one. It sends the next
Claim *before* the last report of the present batch, so that the report's disk write and the engine's planning
overlap: an engine must accept a Claim of a worker that still owes a report. Every BatchTask is answered by
one or more BatchReports, the last of them with `final`. End of file means that the other side is gone.

In a BatchTask files are compact rows; packs, and what stands around pieces of files, are named once per message. Digests and keys travel as hex.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, NamedTuple, TypeVar, assert_never

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.ids import CommitId, DatumId, DatumKey, Digest, PackId
from paddock.model.records import DatumState, Location, PackRecord
from paddock.runtime.laps import NOTHING_SPENT, Spent

PROTOCOL_VERSION = 4
"""Agents and servers of another one don't work together: they tell each other when an agent joins."""

Name = TypeVar("Name", PackId, bytes)

ChunkAt = tuple[Digest, Location]
"""A chunk and where it lies."""


class Cut(NamedTuple):
    """A piece of a file: `head`, then what its chunks hold after the first `skip` bytes, then `tail`; as long as its size says."""

    skip: int
    head: bytes
    tail: bytes


class FileTask(NamedTuple):
    """A file to put in place. path: absolute, in its repo (or in the code directory). cut: None for a whole file."""

    path: str
    size: int
    executable: bool
    chunks: tuple[ChunkAt, ...]
    cut: Cut | None = None


class InputTask(NamedTuple):
    """One element of a datum. Inputs of one name (a group) share a directory.

    repo: `project/repo`. path: what the glob matched, file or directory. files: all files at or below it.
    empty_files: put the files in place with no bytes.
    """

    name: str
    path: str
    repo: str
    branch: str
    commit: CommitId
    join_on: str
    group_by: str
    empty_files: bool
    files: tuple[FileTask, ...]


class DatumTask(NamedTuple):
    id: DatumId
    key: DatumKey
    inputs: tuple[InputTask, ...]


class Limit(NamedTuple):
    """What a datum may not exceed. kind: memory, scratch, output, or disk (the two before together). field: of the spec."""

    kind: str
    bytes: int
    field: str


@dataclass(frozen=True, slots=True)
class TransformTask:
    """How to run the user's command.

    cwd: where commands run when the transform names no `working_dir` and has no code; `/` if empty.
    stdin, err_stdin: lines; None means no standard input. placeholders: replace `{in}` and `{out}` in cmd and
    err_cmd. warm: start the command once, and send it datums as lines (docs/reference/warm-protocol.md);
    warm_datums_max, warm_memory_bytes: after so many datums, or with more memory, it is ended and started anew.
    user: whom the command runs as in a container, by the container's names (`name`, `1000`, `name:group`); empty: as its image says.
    timeout_field: the field of the spec that `datum_timeout_seconds` comes from. cpus_max: CPUs that the command may use.
    """

    id: str
    project: str
    pipeline: str
    cmd: tuple[str, ...]
    stdin: tuple[str, ...] | None = None
    env: Mapping[str, str] | None = None
    working_dir: str = ""
    user: str = ""
    cwd: str = ""
    accept_return_code: tuple[int, ...] = ()
    err_cmd: tuple[str, ...] = ()
    err_stdin: tuple[str, ...] | None = None
    datum_tries: int = 1
    datum_timeout_seconds: float | None = None
    timeout_field: str = "datum_timeout"
    limits: tuple[Limit, ...] = ()
    cpus_max: int | None = None
    placeholders: bool = False
    warm: bool = False
    warm_datums_max: int | None = None
    warm_memory_bytes: int | None = None
    code: tuple[FileTask, ...] | None = None


class Permit(NamedTuple):
    """What a worker shows to a server to read bytes of a pack; good as long as the batch's job lasts (design note 039)."""

    pack: PackId
    text: str


@dataclass(frozen=True, slots=True)
class BatchTask:
    """Datums to run, in this order. lease: names this handing-out of the batch; every answer repeats it.

    gpus: devices that its datums have for themselves. alone: nothing else runs on the machine meanwhile. report_seconds: report in
    parts that last so long at least; more where there are so many workers that their reports would drown the scheduler.
    """

    lease: str
    job: CommitId
    output_commit: CommitId
    transform: str
    datums: tuple[DatumTask, ...]
    gpus: tuple[str, ...] = ()
    alone: bool = False
    report_seconds: float = 0.0
    permits: tuple[Permit, ...] = ()
    """For workers of other machines: of all packs that the inputs and the code lie in."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Do not begin the datums of this lease from position `keep` on: another worker has them. What was begun
    is finished and reported.
    """

    lease: str
    keep: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the batch of this lease. What it has finished is still reported."""

    lease: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing waits for this worker: end the warm process, which holds memory or GPUs that others may be given."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish and report the datum at work, give back the rest of what is held, then exit with code 0."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Kill what runs and exit at once, with code 0, without a report."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker's first word. pid: of the process to wait for or kill. sandbox: `namespaces`, `directory` or `container`.

    reason: why there is no sandbox, or which parts of the machine it cannot show; else empty.
    """

    pid: int
    sandbox: str
    reason: str
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Claim:
    """The worker has room for a batch."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """About once a second while a batch runs. done, failed: datums of this lease that have ended (failed is
    part of done).

    running: the datum at work, for `running_seconds` now.
    """

    lease: str
    done: int
    failed: int
    running: str
    running_seconds: float


class DatumResult(NamedTuple):
    """What one datum came to, in brief; the whole is row `row` of the report's results table.

    position: index in BatchTask.datums. state: success, recovered or failed. seconds: of all tries, with
    moving data. error_code: of `paddock.model.errors` where the cause is the machine or the store and not the
    user's code; else empty. `unavailable` and `limit-exceeded` are worth another attempt elsewhere or later.
    """

    position: int
    row: int
    state: DatumState
    seconds: float
    reason: str = ""
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Results of some datums of a lease, durable in `packs` before this is sent; the packs are not registered yet.

    batch: digest of the batch result (see `batch_results`); None where no datum is reported. final: nothing
    more follows for this lease. error_code, error: set if results were lost (the store refused them): the
    datums that no report names have to be run again. cancelled: the lease was ended by Cancel. starved: positions of datums
    that the kernel ended for want of memory, and that are not reported: they are to run again alone. Given with `final`.
    """

    lease: str
    final: bool
    batch: Digest | None
    datums: tuple[DatumResult, ...]
    packs: tuple[PackRecord, ...]
    output_files: int = 0
    output_bytes: int = 0
    cancelled: bool = False
    error_code: str = ""
    error: str = ""
    starved: tuple[int, ...] = ()
    spent: Spent = NOTHING_SPENT
    """What the worker's time went into since it began the batch, or since its last report of it."""


Down = TransformTask | BatchTask | Trim | Cancel | Rest | Drain | Stop
Up = Ready | Claim | Heartbeat | BatchReport
Message = Down | Up

_PLAIN: dict[str, type[Trim | Cancel | Rest | Drain | Stop | Ready | Claim | Heartbeat]] = {
    "trim": Trim,
    "cancel": Cancel,
    "rest": Rest,
    "drain": Drain,
    "stop": Stop,
    "ready": Ready,
    "claim": Claim,
    "heartbeat": Heartbeat,
}
_PLAIN_NAMES = {kind: name for name, kind in _PLAIN.items()}


def encode(message: Message) -> bytes:
    """One line, with its newline. O(size of the message)."""
    match message:
        case TransformTask():
            document = _transform_to_json(message)
        case BatchTask():
            document = _batch_to_json(message)
        case BatchReport():
            document = _report_to_json(message)
        case Trim() | Cancel() | Rest() | Drain() | Stop() | Ready() | Claim() | Heartbeat():
            document = {field.name: getattr(message, field.name) for field in fields(message)}
            document["type"] = _PLAIN_NAMES[type(message)]
        case _:
            assert_never(message)
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line; InvalidInput if it is not one of this protocol."""
    try:
        document = json.loads(line)
        kind = document.pop("type")
        if kind == "transform":
            return _transform_from_json(document)
        if kind == "batch":
            return _batch_from_json(document)
        if kind == "report":
            return _report_from_json(document)
        return _PLAIN[kind](**document)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InvalidInput(
            f"a message between engine and worker does not parse ({error!r}): {line[:120]!r}; "
            "both must be of the same version of Paddock"
        ) from None


_STATES = {state.value: state for state in DatumState}


class _Names(Generic[Name]):
    """What occurs often in one message (pack ids, heads of pieces), each written once."""

    def __init__(self) -> None:
        self.names: list[Name] = []
        self._numbers: dict[Name, int] = {}

    def number(self, name: Name) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number


def _files_to_json(files: Sequence[FileTask], packs: _Names[PackId], around: _Names[bytes]) -> list[Any]:
    return [
        [
            path,
            size,
            int(executable),
            [[digest.hex(), packs.number(at[0]), *at[1:]] for digest, at in chunks],
            *(() if cut is None else (cut.skip, around.number(cut.head), around.number(cut.tail))),
        ]
        for path, size, executable, chunks, cut in files
    ]


def _files_from_json(rows: Sequence[Any], packs: Sequence[PackId], around: Sequence[bytes]) -> tuple[FileTask, ...]:
    return tuple(
        FileTask(
            path,
            size,
            executable == 1,
            tuple(
                (Digest(bytes.fromhex(digest)), Location(packs[pack], offset, stored, plain, codec))
                for digest, pack, offset, stored, plain, codec in chunks
            ),
            Cut(cut[0], around[cut[1]], around[cut[2]]) if cut else None,
        )
        for path, size, executable, chunks, *cut in rows
    )


def _transform_to_json(task: TransformTask) -> dict[str, Any]:
    packs: _Names[PackId] = _Names()
    around: _Names[bytes] = _Names()
    document: dict[str, Any] = {field.name: getattr(task, field.name) for field in fields(task)}
    document["type"] = "transform"
    document["env"] = dict(task.env or {})
    document["code"] = None if task.code is None else _files_to_json(task.code, packs, around)
    document["packs"] = packs.names
    document["around"] = [each.hex() for each in around.names]
    return document


def _transform_from_json(document: dict[str, Any]) -> TransformTask:
    packs = document.pop("packs")
    around = [bytes.fromhex(each) for each in document.pop("around")]
    for name in ("cmd", "accept_return_code", "err_cmd"):
        document[name] = tuple(document[name])
    for name in ("stdin", "err_stdin"):
        if document[name] is not None:
            document[name] = tuple(document[name])
    document["limits"] = tuple(Limit(*each) for each in document["limits"])
    if document["code"] is not None:
        document["code"] = _files_from_json(document["code"], packs, around)
    return TransformTask(**document)


def _batch_to_json(batch: BatchTask) -> dict[str, Any]:
    packs: _Names[PackId] = _Names()
    around: _Names[bytes] = _Names()
    datums = [
        [
            datum.id,
            datum.key.hex(),
            [
                [
                    each.name,
                    each.path,
                    each.repo,
                    each.branch,
                    each.commit,
                    each.join_on,
                    each.group_by,
                    int(each.empty_files),
                    _files_to_json(each.files, packs, around),
                ]
                for each in datum.inputs
            ],
        ]
        for datum in batch.datums
    ]
    return {
        "type": "batch",
        "lease": batch.lease,
        "job": batch.job,
        "output_commit": batch.output_commit,
        "transform": batch.transform,
        "packs": packs.names,
        "around": [each.hex() for each in around.names],
        "datums": datums,
        "gpus": batch.gpus,
        "alone": batch.alone,
        "report_seconds": batch.report_seconds,
        "permits": [[packs.number(pack), text] for pack, text in batch.permits],
    }


def _batch_from_json(document: dict[str, Any]) -> BatchTask:
    packs = document["packs"]
    around = [bytes.fromhex(each) for each in document["around"]]
    return BatchTask(
        lease=document["lease"],
        job=document["job"],
        output_commit=document["output_commit"],
        transform=document["transform"],
        gpus=tuple(document["gpus"]),
        alone=document["alone"],
        report_seconds=float(document["report_seconds"]),
        permits=tuple(Permit(packs[pack], text) for pack, text in document["permits"]),
        datums=tuple(
            DatumTask(
                datum_id,
                DatumKey(bytes.fromhex(key)),
                tuple(
                    InputTask(
                        name,
                        path,
                        repo,
                        branch,
                        commit,
                        join_on,
                        group_by,
                        empty == 1,
                        _files_from_json(files, packs, around),
                    )
                    for name, path, repo, branch, commit, join_on, group_by, empty, files in inputs
                ),
            )
            for datum_id, key, inputs in document["datums"]
        ),
    )


def _report_to_json(report: BatchReport) -> dict[str, Any]:
    document: dict[str, Any] = {field.name: getattr(report, field.name) for field in fields(report)}
    document["type"] = "report"
    document["batch"] = "" if report.batch is None else report.batch.hex()
    document["datums"] = [
        [
            each.position,
            each.row,
            each.state,
            each.seconds,
            each.reason,
            each.error_code,
        ]
        for each in report.datums
    ]
    document["packs"] = [
        [
            record.pack,
            record.bytes,
            [[digest.hex(), *at[1:]] for digest, at in record.chunks],
        ]
        for record in report.packs
    ]
    return document


def _report_from_json(document: dict[str, Any]) -> BatchReport:
    document["starved"] = tuple(document["starved"])
    document["spent"] = Spent(*map(float, document["spent"]))
    document["batch"] = Digest(bytes.fromhex(document["batch"])) if document["batch"] else None
    document["datums"] = tuple(
        DatumResult(position, row, _STATES[state], seconds, reason, error_code)
        for position, row, state, seconds, reason, error_code in document["datums"]
    )
    document["packs"] = tuple(
        PackRecord(
            pack,
            size,
            tuple(
                (Digest(bytes.fromhex(digest)), Location(pack, offset, stored, plain, codec))
                for digest, offset, stored, plain, codec in chunks
            ),
        )
        for pack, size, chunks in document["packs"]
    )
    return BatchReport(**document)
