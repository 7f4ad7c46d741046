"""Frozen value types that services return: the same on every way in, and as JSON.

Times are aware UTC datetimes; sizes are bytes; `*_seconds` are floats. Refs are text in address syntax:
`project/repo`, `project/repo@branch`, `project/repo@<commit id>`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from paddock.model.cache_records import ReuseCounts
from paddock.model.dataclass import dataclass
from paddock.model.ids import CommitId, DatumId, Digest, PackId

DEFAULT_PROJECT = "default"
DEFAULT_BRANCH = "main"
DEFAULT_POOL = "default"
EngineName = Literal["local", "slurm", "kubernetes"]
"""What has the workers of a pipeline. `local`: the server's own, and those that people start elsewhere with `paddock worker`; the
others start workers as they are needed."""
DEFAULT_ENGINE: EngineName = "local"


# ---- storage -----------------------------------------------------------------------------------------------


class Location(NamedTuple):
    """Where a chunk lies: `stored` bytes at `offset` of `pack`, `size` bytes once decoded by `codec`."""

    pack: PackId
    offset: int
    stored: int
    size: int
    codec: int


@dataclass(frozen=True, slots=True)
class PackRecord:
    """A pack that is durable in the object store, and what it holds; what a writer hands to the chunk index."""

    pack: PackId
    bytes: int
    chunks: tuple[tuple[Digest, Location], ...]


# ---- versions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    description: str
    created: datetime


class RepoKind(enum.StrEnum):
    USER = "user"
    PIPELINE = "pipeline"


@dataclass(frozen=True, slots=True)
class Repo:
    project: str
    name: str
    kind: RepoKind
    description: str
    created: datetime
    branches: tuple[str, ...]
    size_bytes: int
    """Bytes of the files on the default branch's head (the first branch where there is no default one)."""
    files: int


@dataclass(frozen=True, slots=True)
class Branch:
    project: str
    repo: str
    name: str
    head: CommitId | None
    """The newest good finished commit; what reading the branch reads. None: nothing was committed yet."""
    open_commit: CommitId | None
    """The user's open commit on the branch, that writes go to."""
    provenance: tuple[str, ...]
    """Direct provenance, as `project/repo@branch`."""
    created: datetime


@dataclass(frozen=True, slots=True)
class Tag:
    """A name for a commit that never moves."""

    project: str
    repo: str
    name: str
    commit: CommitId
    description: str
    created: datetime


@dataclass(frozen=True, slots=True)
class PoolToken:
    """Lets workers on other hosts join one pool. The token itself is kept nowhere."""

    id: int
    pool: str
    description: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers that are alike, as the server that schedules last saw them. Of a pool whose workers people start, it counts those.

    waiting: asked for, and not started. started: not joined yet. reason: why workers can't start, and what to do; empty where
    nothing is wrong, or none is needed.
    """

    name: str
    engine: str
    pipelines: tuple[str, ...]
    """`project/pipeline` of those that it serves."""
    waiting: int
    started: int
    idle: int
    busy: int
    reason: str
    seen: datetime


@dataclass(frozen=True, slots=True)
class NewPoolToken:
    token: PoolToken
    secret: str
    """What workers are given; said this once."""


class CommitState(enum.StrEnum):
    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"
    """Finished with an error (its job failed, was stopped, or could not run). Holds no readable tree."""
    FORGOTTEN = "forgotten"
    """A job's output whose files were given up; what is known about it stays."""


class CommitOrigin(enum.StrEnum):
    USER = "user"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Commit:
    project: str
    repo: str
    id: CommitId
    branch: str
    state: CommitState
    origin: CommitOrigin
    parent: CommitId | None
    description: str
    error: str
    tree: str
    """Hex digest of the tree's root table once finished, else empty. Equal content, equal digest."""
    size_bytes: int
    files: int
    provenance: tuple[str, ...]
    """Direct provenance, as `project/repo@<commit id>`."""
    created: datetime
    finished: datetime | None


class FileKind(enum.StrEnum):
    FILE = "file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class FileInfo:
    path: str
    """Absolute; a directory's has no trailing slash; the root is `/`."""
    kind: FileKind
    size_bytes: int
    digest: str
    """Hex. Of a directory: over names and digests of all files below it."""
    files: int
    """1 for a file; the number of files below for a directory."""
    executable: bool
    datum: str
    """Id of the datum that wrote it; empty for user input and directories."""


class Change(enum.StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class FileDiff:
    path: str
    change: Change
    old: FileInfo | None
    new: FileInfo | None


@dataclass(frozen=True, slots=True)
class PutReport:
    """What one put did. `commit` is None when nothing changed and so no commit was made (directory sync only)."""

    commit: CommitId | None
    files: int
    bytes: int
    changed: int
    """Files added or changed by this put."""
    removed: int
    stored_bytes: int
    """Bytes newly written to the object store."""
    seconds: float


@dataclass(frozen=True, slots=True)
class GetReport:
    files: int
    bytes: int
    written: int
    removed: int
    seconds: float


# ---- compute -----------------------------------------------------------------------------------------------


class PipelineState(enum.StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Pipeline:
    project: str
    name: str
    version: int
    state: PipelineState
    description: str
    spec: Mapping[str, Any]
    """The effective spec (defaults filled in), canonical snake_case names."""
    created: datetime
    updated: datetime
    last_job: CommitId | None
    last_job_state: JobState | None
    reason: str = ""
    """Why workers for it can't start, and what to do; empty where nothing is wrong."""
    reuse: ReuseCounts | None = None
    """How often kept results served in its newest jobs; None where it was not asked for (in lists)."""


class ApplyOutcome(enum.StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class AppliedPipeline:
    pipeline: Pipeline
    outcome: ApplyOutcome
    warnings: tuple[str, ...]
    job: CommitId | None
    """Commit set made by the apply (a job on the present heads), if any."""


class JobState(enum.StrEnum):
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    FINISHING = "finishing"
    SUCCESS = "success"
    FAILURE = "failure"
    KILLED = "killed"
    UNRUNNABLE = "unrunnable"

    @property
    def final(self) -> bool:
        return self in (JobState.SUCCESS, JobState.FAILURE, JobState.KILLED, JobState.UNRUNNABLE)


@dataclass(frozen=True, slots=True)
class DatumCounts:
    """total = run + reused + recovered + failed once the job has ended; while it runs, the rest is waiting."""

    total: int = 0
    run: int = 0
    """Computed by this job, successfully."""
    reused: int = 0
    recovered: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A datum that came out differently when it was computed again."""

    datum: DatumId
    inputs: tuple[str, ...]
    """`input:/path`, the first of them."""
    files: tuple[str, ...]
    """`/path added`, `removed` or `changed`, against the kept result; the first of them."""
    reason: str
    """Why the second run failed, if it did."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Reused datums that the job computed again. The kept results stayed: they are in the output, and in the cache."""

    checked: int
    differing: int
    findings: tuple[AuditFinding, ...]
    """The first of those that differ."""


@dataclass(frozen=True, slots=True)
class Job:
    project: str
    pipeline: str
    id: CommitId
    pipeline_version: int
    state: JobState
    reason: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    datums: DatumCounts
    seconds: float
    """From started to finished (or to now)."""
    found: int = 0
    """Of `datums.reused`, those found among the kept results of other jobs; the rest stayed as the last good job had them."""
    carried: int = 0
    """Of `found`, those that an earlier version's transform computed, which an update was told to keep."""
    early: int = 0
    """Of `datums.run`, those begun before the job's inputs were finished."""
    wasted: int = 0
    """Datums computed early that the job came not to have; their results are kept in the cache."""
    audit: AuditReport | None = None
    """None where nothing was audited, and until the job has ended."""


@dataclass(frozen=True, slots=True)
class CommitSet:
    id: CommitId
    commits: tuple[Commit, ...]
    jobs: tuple[Job, ...]
    created: datetime


class DatumState(enum.StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCESS = "success"
    REUSED = "reused"
    RECOVERED = "recovered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DatumInput:
    name: str
    repo: str
    """`project/repo@branch`."""
    path: str
    digest: str
    size_bytes: int
    piece: str = ""
    """Where an input with `split` cuts the file: the name of its piece, as the command sees it below the path; else empty."""
    first_record: int | None = None
    """Of a piece: the number of its first record in the file, from 1. None where the file is gone, or there is no piece."""
    last_record: int | None = None


@dataclass(frozen=True, slots=True)
class Datum:
    id: DatumId
    pipeline: str
    """`project/pipeline`."""
    job: CommitId
    computed_by: CommitId | None
    """Id of the job that computed the result; differs from `job` for a reused one; None while waiting."""
    state: DatumState
    inputs: tuple[DatumInput, ...]
    key: str
    reason: str
    exit_code: int | None
    tries: int
    seconds: float
    output_bytes: int
    output_files: int
    carried_from: str = ""
    """`project/pipeline version N`: whose transform computed the result, where that is not the job's own and an update was
    told to keep results; else empty."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One step of `why`: what a file came from. A tree: `inputs` lead back to user commits."""

    file: str
    """`project/repo@<commit id>:/path`."""
    commit: Commit
    datum: Datum | None
    """None for a file that a user put."""
    pipeline_version: int | None
    inputs: tuple[Origin, ...]
    truncated: int
    """How many more inputs there are than `inputs` shows."""


# ---- JSON --------------------------------------------------------------------------------------------------


def to_json(value: Any) -> Any:
    """Plain JSON data for a record (or any nesting of records, tuples, mappings): ISO 8601 times, hex digests."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value
