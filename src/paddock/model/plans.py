"""Frozen value types of plans: what a job would do, why a datum ran, what datums an input makes."""

from __future__ import annotations

import enum

from paddock.model.dataclass import dataclass
from paddock.model.ids import CommitId, DatumId
from paddock.model.records import ApplyOutcome, Datum, DatumInput


class PlannedAction(enum.StrEnum):
    RUN = "run"
    REUSE = "reuse"
    DROP = "drop"
    """The datum is no more; its outputs disappear."""


@dataclass(frozen=True, slots=True)
class PlannedDatum:
    id: DatumId
    action: PlannedAction
    inputs: tuple[DatumInput, ...]
    reasons: tuple[str, ...]
    """Why, each in a sentence: the file, code file or spec field that changed, or the job that a result is kept from."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the datums to run would take with so many workers, as far as the last job's datums tell."""

    workers: int
    seconds: float
    worker_hours: float


@dataclass(frozen=True, slots=True)
class JobPlan:
    """What a job of a pipeline would do on the present heads of its inputs. total = run + reuse; `drop` more are no longer there."""

    pipeline: str
    """`project/pipeline`."""
    outcome: ApplyOutcome
    """What applying the spec would do with the pipeline."""
    base: CommitId | None
    """The last job that succeeded, which the plan is compared with."""
    total: int
    run: int
    reuse: int
    drop: int
    carried: int
    """Of `reuse`, those whose result another transform computed, and which are kept because that was asked for."""
    changes: tuple[str, ...]
    """Spec fields and code files that differ from the base's and so make every datum run."""
    datums: tuple[PlannedDatum, ...]
    """The first datums to run, to drop, and to take from another job's results; those that simply stay are not shown."""
    truncated: int
    """How many more of these there are."""
    seconds_per_datum: float | None
    """Mean of the base's datums, as far as they were looked at; None where nothing is known."""
    estimates: tuple[Estimate, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatumExplanation:
    """Why a datum of a job ran, or did not need to."""

    datum: Datum
    base: CommitId | None
    """The job that this one was compared with."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MatchCount:
    """How many files and directories one pfs input matches; with `split`, how many pieces of files."""

    name: str
    repo: str
    """`project/repo@branch`."""
    glob: str
    matches: int


@dataclass(frozen=True, slots=True)
class PreviewFile:
    name: str
    path: str
    directory: bool
    size_bytes: int
    captures: tuple[str, ...]
    """What each group of the glob captured."""
    key: str
    """What `join_on` or `group_by` comes to; empty where the input is in no join or group."""
    piece: str = ""
    """Where the input has `split`: the name of the piece below `path`; else empty."""
    first_record: int | None = None
    """Of a piece: the number of its first record in the file, from 1."""
    last_record: int | None = None


@dataclass(frozen=True, slots=True)
class PreviewDatum:
    files: tuple[PreviewFile, ...]


@dataclass(frozen=True, slots=True)
class InputPreview:
    """The datums that an input makes on the present heads."""

    total: int
    inputs: tuple[MatchCount, ...]
    datums: tuple[PreviewDatum, ...]
    """The first of them."""
    warnings: tuple[str, ...]
