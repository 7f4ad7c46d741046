"""Why a datum of a job ran, or did not need to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from paddock.catalog import jobs as jobs_sql
from paddock.catalog.jobs import JobRow
from paddock.model.ids import CommitId
from paddock.model.plans import DatumExplanation
from paddock.model.records import Datum, DatumState
from paddock.pipelines.inputs import leaves_of
from paddock.runtime.job_facts import base_of, input_commits, spec_of, version_of
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.plan_preview import version_code
from paddock.runtime.plan_reasons import Reasons, Side, transform_changes
from paddock.versions.home import Home


def explain_datum(home: Home, job: JobRow, row: Mapping[str, Any], datum: Datum) -> DatumExplanation:
    """row: the datum's row in the job's datums table. The base may be gone (squashed or deleted); then nothing can be compared."""
    with home.catalog.read() as tx:
        base_row = None
        if job.base_id is not None and jobs_sql.exists(tx, job.base_id):
            base_row = jobs_sql.get(tx, job.base_id)
        version = version_of(tx, job.pipeline_id, job.version)
        old_version = None if base_row is None else version_of(tx, base_row.pipeline_id, base_row.version)
        base = None if base_row is None else base_of(tx, home, base_row)
        inputs = {place: commit.tree for place, commit in input_commits(tx, home, job.commit_id).items()}
    base_id = None if base_row is None else CommitId(base_row.set_id)
    if datum.state is DatumState.REUSED:
        reason = f"job {datum.computed_by} computed it for equal files and an equal transform"
        if datum.carried_from:
            reason = (
                f"job {datum.computed_by} computed it for equal files, with the transform of {datum.carried_from}; "
                "an update since was told to keep results (--keep-results)"
            )
        return DatumExplanation(datum, base_id, (reason,))
    spec = spec_of(version)
    changes: tuple[str, ...] = ()
    old: Side | None = None
    before: dict[str, Any] | None = None
    if base is not None and old_version is not None:
        before_spec = spec_of(old_version)
        changes = transform_changes(before_spec, spec, version_code(home, old_version), version_code(home, version))
        old = Side(leaves_of(before_spec), base.inputs)
        rows = home.tables.lookup(DATUMS, base.datums, pa.array([row["name"]], pa.string())).to_pylist()
        before = rows[0] if rows else None
    asked = "every datum was to run (--reprocess or --no-cache)" if job.no_cache else ""
    if spec.reprocess_spec == "every_job":
        asked = "every datum was to run (reprocess_spec is every_job)"
    reasons = Reasons(home.trees, Side(leaves_of(spec), inputs), old, changes, asked)
    return DatumExplanation(datum, base_id, reasons.to_run(row, before))
