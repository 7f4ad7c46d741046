"""How often kept results served, and what an audit of them found, for people."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.cli import output
from paddock.model.cache_records import ReuseCounts
from paddock.model.records import AuditReport, Job

FINDINGS_SHOWN = 10


def reuse_fields(reuse: ReuseCounts) -> Sequence[tuple[str, object]]:
    """Lines on how often kept results served; none where there was no job."""
    if not reuse.jobs:
        return ()
    carried = f", {reuse.carried} of them carried over from another transform" if reuse.carried else ""
    rate = "nothing was looked up" if reuse.hit_rate is None else f"{reuse.hit_rate:.1%} of the datums looked up"
    return (
        (f"last {output.count(reuse.jobs, 'job')}", f"{output.count(reuse.datums, 'datum')}"),
        ("computed", reuse.computed),
        ("stayed as they were", reuse.kept),
        ("found in the cache", f"{reuse.found}{carried}"),
        ("hit rate", rate),
    )


def job_fields(job: Job) -> Sequence[tuple[str, object]]:
    """Lines on where a job's reused results came from, and on its early work."""
    counts = job.datums
    done = counts.run + counts.reused
    kept = counts.reused - job.found
    carried = f", {job.carried} of them carried over from another transform" if job.carried else ""
    return (
        ("reused", f"{counts.reused} ({kept} as they were, {job.found} found in the cache{carried})"),
        ("reuse rate", f"{counts.reused / done:.1%}" if done else None),
        ("begun early", f"{job.early} before the inputs were finished" if job.early else None),
        ("early for nothing", job.wasted or None),
        ("audit", None if job.audit is None else audit_headline(job.audit)),
    )


def audit_headline(audit: AuditReport) -> str:
    checked = output.count(audit.checked, "reused datum")
    if not audit.differing:
        return f"{checked} computed again, all as they were kept"
    return f"{checked} computed again, {audit.differing} came out differently; the kept results stay in use"


def say_findings(job: Job) -> None:
    """Name the datums of a job that came out differently, with the files, on standard error."""
    if job.audit is None or not job.audit.differing:
        return
    name = output.short_name(job.project, job.pipeline)
    output.note(f"warning: {name} is not deterministic: {audit_headline(job.audit)}")
    for finding in job.audit.findings[:FINDINGS_SHOWN]:
        inputs = ", ".join(output.printable(each) for each in finding.inputs)
        what = finding.reason or ", ".join(output.printable(each) for each in finding.files)
        output.note(f"  datum {finding.datum} ({inputs}): {what}")
    if job.audit.differing > FINDINGS_SHOWN:
        output.note(f"  and {job.audit.differing - FINDINGS_SHOWN} more; `paddock job inspect {name}@{job.id} --json`")
