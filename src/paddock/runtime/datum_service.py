"""Datums: list, look at one, read its log. Implements `model.services.Datums`."""

from __future__ import annotations

import heapq
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from paddock.catalog import batches as batches_sql
from paddock.catalog import pipelines as pipelines_sql
from paddock.catalog.jobs import JobRow
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, NotFound
from paddock.model.ids import CommitId, DatumId, Digest
from paddock.model.plans import DatumExplanation, InputPreview
from paddock.model.records import Datum, DatumInput, DatumState
from paddock.pipelines.inputs import leaves_of
from paddock.pipelines.models import PipelineSpec
from paddock.runtime.batch_format import NOT_STARTED, STATES
from paddock.runtime.batch_results import read_log, read_results
from paddock.runtime.datum_explain import explain_datum
from paddock.runtime.datum_inputs import DatumInputs
from paddock.runtime.input_preview import preview_input
from paddock.runtime.job_facts import input_commits
from paddock.runtime.job_records import find_job
from paddock.runtime.job_tables import DATUMS, NO_BATCH
from paddock.runtime.live_logs import running_log
from paddock.runtime.outputs import BatchResults
from paddock.versions.home import Home

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class _JobDatums:
    """What is needed to read a job's datums. `fresh`: of a job at work, where results lie that came since it was planned.

    `makers`: names of the pipeline versions that computed carried results, as far as they were looked up.
    """

    job: JobRow
    root: Digest
    inputs: DatumInputs
    fresh: Mapping[bytes, tuple[bytes, int]]
    home: Home
    makers: dict[str, str] = field(default_factory=dict)

    def maker(self, transform: str) -> str:
        """`project/pipeline version N` of the name that tasks give a transform (see `job_steps`)."""
        if transform not in self.makers:
            pipeline, _, version = transform.partition(".")
            with self.home.catalog.read() as tx:
                row = pipelines_sql.find_by_id(tx, int(pipeline))
            name = "a pipeline that was deleted," if row is None else str(row)
            self.makers[transform] = f"{name} version {version}"
        return self.makers[transform]


class DatumService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def list(self, job: str, *, states: Sequence[DatumState] = (), limit: int | None = None) -> Iterator[Datum]:
        """In the order of their input paths. A job that is not planned yet has none."""
        view = self._open(job)
        if view is None:
            return
        results = BatchResults(self._home)
        count = 0
        for rows in self._home.tables.scan(DATUMS, view.root):
            for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
                listed = rows.slice(start, _ROWS_AT_ONCE).to_pylist()
                for row, inputs in zip(listed, view.inputs.of(listed), strict=True):
                    if limit is not None and count >= limit:
                        return
                    datum = _datum(view, results, row, inputs)
                    if not states or datum.state in states:
                        count += 1
                        yield datum

    def inspect(self, job: str, datum: str) -> Datum:
        view, row = self._find(job, datum)
        return _datum(view, BatchResults(self._home), row, *view.inputs.of([row]))

    def logs(self, job: str, datum: str) -> bytes:
        """What the datum's command printed, all tries; of a reused datum, when it was computed; of one that runs, up to now."""
        view, row = self._find(job, datum)
        batch, ordinal = _place(view, row)
        if batch == NO_BATCH:
            prefix = f"{view.job.set_id}.{view.job.pipeline_id}.{view.job.version}."
            return running_log(self._home.path / "scratch", prefix, row["id"].hex())
        return b"".join(read_log(self._home.chunks, Digest(batch), ordinal))

    def all_logs(self, job: str, *, prefix: str = "", shown: Container[str] = ()) -> Iterator[tuple[str, bytes]]:
        """(datum id, log) of each datum that the job ran and that has ended, in datum order.

        prefix: only ids that start so. shown: ids to leave out. Cost: one look at the table, and at each batch and its log while
        datums of it follow each other. Memory: the longest log, and what `BatchResults` keeps.
        """
        view = self._open(job)
        if view is None:
            return
        results = BatchResults(self._home)
        for rows in self._home.tables.scan(DATUMS, view.root):
            for row in rows.select(["id", "batch", "ordinal", "job"]).filter(_within(rows, prefix)).to_pylist():
                batch, ordinal = _place(view, row)
                id = row["id"].hex()
                if batch != NO_BATCH and _ran(view, row) and id not in shown:
                    yield id, results.log(batch, ordinal)

    def costs(self, job: str, *, slowest: int) -> tuple[npt.NDArray[np.float64], tuple[Datum, ...]]:
        """Seconds of each datum that the job computed itself and that has ended, in no order; and the slowest of them.

        Cost: the job's table, and each of its batch results once. Memory: 52 bytes a datum.
        """
        view = self._open(job)
        if view is None:
            return np.zeros(0), ()
        seconds, found = [np.zeros(0)], list[tuple[float, bytes]]()
        for batch, ordinals in self._computed(view):
            results = read_results(self._home.chunks, Digest(batch)).take(ordinals)
            taken = results.column("seconds").to_numpy()
            ids = results.column("id")
            found += [(float(taken[at]), ids[at].as_py()) for at in np.argsort(-taken)[:slowest].tolist()]
            found = heapq.nlargest(slowest, found)
            seconds.append(taken)
        return np.concatenate(seconds), self._by_id(view, [id for _, id in found])

    def _computed(self, view: _JobDatums) -> Iterator[tuple[bytes, pa.Array]]:
        """(batch, ordinals) of the results that are the job's own work."""
        job = pa.scalar(bytes.fromhex(view.job.set_id), pa.binary(16))
        own = [
            rows.select(["batch", "ordinal"]).filter(pc.equal(rows.column("job"), job))
            for rows in self._home.tables.scan(DATUMS, view.root)
        ]
        for each in (
            pa.concat_tables(own).group_by("batch").aggregate([("ordinal", "list")]).to_batches() if own else ()
        ):
            for at, batch in enumerate(each.column("batch").to_pylist()):
                if batch != NO_BATCH:
                    yield batch, each.column("ordinal_list")[at].values
        reported: dict[bytes, list[int]] = {}
        for batch, ordinal in view.fresh.values():
            reported.setdefault(batch, []).append(ordinal)
        yield from ((batch, pa.array(ordinals)) for batch, ordinals in reported.items())

    def _by_id(self, view: _JobDatums, ids: Sequence[bytes]) -> tuple[Datum, ...]:
        """These datums, in this order."""
        wanted = pa.array(ids, pa.binary(16))
        found = [
            row
            for rows in self._home.tables.scan(DATUMS, view.root)
            for row in rows.filter(pc.is_in(rows.column("id"), value_set=wanted)).to_pylist()
        ]
        found.sort(key=lambda row: ids.index(row["id"]))
        results = BatchResults(self._home)
        return tuple(
            _datum(view, results, row, inputs) for row, inputs in zip(found, view.inputs.of(found), strict=True)
        )

    def explain(self, job: str, datum: str) -> DatumExplanation:
        view, row = self._find(job, datum)
        return explain_datum(
            self._home, view.job, row, _datum(view, BatchResults(self._home), row, *view.inputs.of([row]))
        )

    def preview(self, spec: Mapping[str, Any], *, limit: int = 20) -> InputPreview:
        return preview_input(self._home, spec, limit=limit)

    def _open(self, job: str) -> _JobDatums | None:
        with self._home.catalog.read() as tx:
            row = find_job(tx, job)
            version = pipelines_sql.version(tx, row.pipeline_id, row.version)
            reported = batches_sql.of_job(tx, row.id)
            trees = {place: commit.tree for place, commit in input_commits(tx, self._home, row.commit_id).items()}
        assert version is not None, f"job {row} has a pipeline version"
        if not row.datums_root:
            return None
        results = BatchResults(self._home)
        fresh: dict[bytes, tuple[bytes, int]] = {}
        for each in reported:
            batch = bytes.fromhex(each.result)
            ids = results[batch].results.column("id").to_pylist()
            fresh |= {id: (batch, ordinal) for ordinal, id in enumerate(ids)}
        leaves = leaves_of(PipelineSpec.model_validate(json.loads(version.spec)))
        inputs = DatumInputs(self._home, leaves, trees)
        return _JobDatums(row, Digest(bytes.fromhex(row.datums_root)), inputs, fresh, self._home)

    def _find(self, job: str, datum: str) -> tuple[_JobDatums, dict[str, Any]]:
        if not datum or not set(datum) <= set("0123456789abcdef"):
            raise InvalidInput(f"datum id {datum!r} is not hexadecimal; `paddock datum list {job}` shows the ids")
        view = self._open(job)
        found = []
        if view is not None:
            for rows in self._home.tables.scan(DATUMS, view.root):
                found += rows.filter(_within(rows, datum)).to_pylist()
        if len(found) > 1:
            raise InvalidInput(f"datum id {datum} of job {job} is not unique; write more of its digits")
        if view is None or not found:
            raise NotFound(f"job {job} has no datum {datum}; `paddock datum list {job}` shows its datums")
        return view, found[0]


def _within(rows: pa.Table, prefix: str) -> pa.ChunkedArray:
    """Which rows have an id whose hexadecimal digits start so."""
    if len(prefix) > 32 or not set(prefix) <= set("0123456789abcdef"):
        return pc.is_null(rows.column("id"))  # None of them.
    least, most = (pa.scalar(bytes.fromhex(prefix.ljust(32, digit)), pa.binary(16)) for digit in "0f")
    return pc.and_(pc.greater_equal(rows.column("id"), least), pc.less_equal(rows.column("id"), most))


def _ran(view: _JobDatums, row: Mapping[str, Any]) -> bool:
    """Whether the job computed the datum's result itself, if there is one."""
    return bool(row["batch"] == NO_BATCH or row["job"].hex() == view.job.set_id)


def _place(view: _JobDatums, row: Mapping[str, Any]) -> tuple[bytes, int]:
    """Where the datum's result lies: (batch, ordinal). A kept result stands, also while it is audited."""
    planned: tuple[bytes, int] = row["batch"], row["ordinal"]
    return view.fresh.get(row["id"], planned) if planned[0] == NO_BATCH else planned


def _datum(view: _JobDatums, results: BatchResults, row: Mapping[str, Any], inputs: tuple[DatumInput, ...]) -> Datum:
    batch, ordinal = _place(view, row)
    own = _ran(view, row)
    outcome = None if batch == NO_BATCH else results.row(batch, ordinal)
    state = DatumState.WAITING
    if outcome is not None:
        state = STATES[outcome["state"]] if own else DatumState.REUSED
    computed_by = view.job.set_id if own else row["job"].hex()
    code = NOT_STARTED if outcome is None else outcome["exit_code"]
    return Datum(
        id=DatumId(row["id"].hex()),
        pipeline=f"{view.job.project}/{view.job.pipeline}",
        job=CommitId(view.job.set_id),
        computed_by=None if outcome is None else CommitId(computed_by),
        state=state,
        inputs=inputs,
        key=row["key"].hex(),
        reason="" if outcome is None else outcome["reason"],
        exit_code=None if code == NOT_STARTED else code,
        tries=0 if outcome is None else outcome["tries"],
        seconds=0.0 if outcome is None else outcome["seconds"],
        output_bytes=0 if outcome is None else outcome["output_bytes"],
        output_files=0 if outcome is None else outcome["files_count"],
        carried_from=""
        if outcome is None or outcome["key"] == row["key"]
        else view.maker(results[batch].header.transform),
    )
