"""Kept results, results carried over and audits: the same embedded and over HTTP."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from paddock.model.cache_records import CachePolicy
from paddock.model.errors import InvalidInput, NotFound
from paddock.model.plans import PlannedAction
from paddock.model.records import DatumState, Job, JobState
from paddock.model.services import Paddock

_numbers = itertools.count()


@pytest.fixture
def project(services: Paddock) -> str:
    """A project with a repo `data` of three files that no other project has."""
    name = services.projects.create(f"p{next(_numbers)}").name
    services.repos.create(f"{name}/data")
    services.commits.start(f"{name}/data@main")
    for path in "abc":
        services.files.put(f"{name}/data@main:/{path}", f"{path} of {name}".encode())
    services.commits.finish(f"{name}/data@main")
    return name


def spec(project: str, command: str = "cp $data /pfs/out/", *, name: str = "copy", **fields: Any) -> dict[str, Any]:
    return {
        "pipeline": {"project": project, "name": name},
        "transform": {"cmd": ["sh", "-c", command], "env": {"OF": project}},
        "input": {"pfs": {"project": project, "repo": "data", "glob": "/*"}},
        **fields,
    }


def apply(paddock: Paddock, spec: dict[str, Any], **wishes: Any) -> Job:
    """Apply, work it off, and return the newest job."""
    paddock.pipelines.apply(spec, **wishes)
    return ended(paddock, spec)


def ended(paddock: Paddock, spec: dict[str, Any]) -> Job:
    paddock.process()
    return paddock.jobs.inspect(f"{spec['pipeline']['project']}/{spec['pipeline']['name']}@head")


def read(paddock: Paddock, address: str) -> bytes:
    return b"".join(paddock.files.read(address))


def test_kept_results_are_counted_by_transform_and_serve_another_pipeline(services: Paddock, project: str) -> None:
    apply(services, spec(project))
    other = apply(services, spec(project, name="other"))
    assert (other.datums.reused, other.found, other.carried) == (3, 3, 0)
    report = services.cache.inspect(pipeline=f"{project}/copy")
    (kept,) = report.kept
    assert (kept.results, kept.pipelines) == (3, (f"{project}/copy", f"{project}/other"))
    assert report.bytes == kept.bytes > 0
    assert services.cache.inspect(pipeline=f"{project}/other").reuse.hit_rate == 1.0
    reuse = services.pipelines.inspect(f"{project}/copy").reuse
    assert reuse is not None
    assert (reuse.jobs, reuse.datums, reuse.computed, reuse.found, reuse.hit_rate) == (1, 3, 3, 0, 0.0)
    with pytest.raises(NotFound, match="does not exist"):
        services.cache.inspect(pipeline=f"{project}/nothing")


def test_cleared_results_are_computed_again_but_jobs_still_show_them(services: Paddock, project: str) -> None:
    first = apply(services, spec(project))
    dry = services.cache.clear(pipeline=f"{project}/copy", dry_run=True)
    assert (dry.dry_run, dry.results) == (True, 3)
    gone = services.cache.clear(pipeline=f"{project}/copy")
    assert (gone.results, gone.bytes) == (dry.results, dry.bytes)
    assert services.cache.inspect(pipeline=f"{project}/copy").results == 0
    services.store.collect_garbage(grace_seconds=0)
    address = f"{project}/copy@{first.id}"
    (datum, *_) = services.datums.list(address)
    assert services.datums.logs(address, datum.id) == b""
    assert read(services, f"{address}:/a") == b"a of " + project.encode()
    again = ended(services, spec(project)) if services.pipelines.rerun(f"{project}/copy") else None
    assert again is not None
    assert (again.datums.reused, again.found) == (3, 0)
    assert apply(services, spec(project, name="other")).datums.run == 3


def test_limits_are_kept_and_checked(services: Paddock) -> None:
    before = services.cache.inspect().policy
    policy = CachePolicy(bytes_max=1 << 40, age_seconds_max=3600.0, audit_share=0.0)
    assert services.cache.set_policy(policy) == policy
    assert services.cache.inspect().policy == policy
    assert services.cache.evict(dry_run=True).results == 0
    with pytest.raises(InvalidInput):
        services.cache.set_policy(CachePolicy(audit_share=1.5))
    with pytest.raises(InvalidInput):
        services.cache.evict(bytes_max=-1)
    services.cache.set_policy(before)
    with pytest.raises(InvalidInput, match="nothing says what is to go"):
        services.cache.evict()


def test_the_longest_unused_results_go_first(services: Paddock, project: str) -> None:
    old, new = spec(project, "cat $data >/pfs/out/old", name="old"), spec(project, name="new")
    old["input"] = {"pfs": {"project": project, "repo": "data", "glob": "/a"}}
    apply(services, old)
    apply(services, new)
    kept = services.cache.inspect()
    mine = {each.pipelines[0]: each for each in kept.kept if each.pipelines and each.pipelines[0].startswith(project)}
    newer = sum(each.bytes for each in kept.kept if each.used >= mine[f"{project}/new"].used)
    assert mine[f"{project}/old"].used < mine[f"{project}/new"].used
    gone = services.cache.evict(bytes_max=newer)
    assert f"{project}/old" in {name for each in gone.gone for name in each.pipelines}
    assert gone.left_bytes <= newer
    assert services.cache.inspect(pipeline=f"{project}/new").results == 3
    assert services.cache.inspect(pipeline=f"{project}/old").results == 0


def test_without_the_cache_all_is_computed_and_replaces_what_was_kept(services: Paddock, project: str) -> None:
    random = spec(project, "head -c 16 /dev/urandom | od -An -tx1 > /pfs/out/$(basename $data)")
    apply(services, random)
    first = read(services, f"{project}/copy@main:/a")
    anew = apply(services, random, reprocess=True)
    second = read(services, f"{project}/copy@main:/a")
    assert (anew.datums.run, anew.datums.reused) == (3, 0)
    assert first != second
    other = apply(services, {**random, "pipeline": {"project": project, "name": "other"}})
    assert other.datums.reused == 3
    assert read(services, f"{project}/other@main:/a") == second


def test_a_version_remembers_that_its_first_job_computes_all(services: Paddock, project: str) -> None:
    apply(services, spec(project))
    services.pipelines.apply(spec(project), reprocess=True, hold=True)
    services.files.put(f"{project}/data@main:/d", b"d")
    assert ended(services, spec(project)).datums.run == 4
    services.files.put(f"{project}/data@main:/e", b"e")
    assert ended(services, spec(project)).datums.run == 1


def test_every_job_computes_every_datum(services: Paddock, project: str) -> None:
    always = spec(project, reprocess_spec="every_job")
    assert apply(services, always).datums.run == 3
    services.files.put(f"{project}/data@main:/d", b"d")
    assert ended(services, always).datums.run == 4


def test_results_are_carried_over_a_change_of_code_where_asked(services: Paddock, project: str) -> None:
    first = apply(services, spec(project, "cp $data /pfs/out/; true one"))
    changed = spec(project, "tr a-z A-Z <$data >/pfs/out/$(basename $data)")
    plan = services.pipelines.plan(changed, keep_results=True)
    assert (plan.run, plan.reuse, plan.carried) == (0, 3, 3)
    assert {each.action for each in plan.datums} == {PlannedAction.REUSE}
    assert all("transform.cmd changed" in each.reasons[0] for each in plan.datums)
    assert services.pipelines.plan(changed).run == 3
    kept = apply(services, changed, keep_results=True)
    assert (kept.datums.run, kept.datums.reused, kept.found, kept.carried) == (0, 3, 3, 3)
    assert read(services, f"{project}/copy@main:/a") == b"a of " + project.encode()
    (datum, *_) = services.datums.list(f"{project}/copy@{kept.id}")
    assert (datum.state, datum.computed_by) == (DatumState.REUSED, first.id)
    assert datum.carried_from == f"{project}/copy version 1"
    (reason,) = services.datums.explain(f"{project}/copy@{kept.id}", datum.id).reasons
    assert f"{project}/copy version 1" in reason
    origin = services.why(f"{project}/copy@main:/a").datum
    assert origin is not None
    assert origin.carried_from == f"{project}/copy version 1"


def test_carried_results_stay_with_their_pipeline_and_only_for_equal_files(services: Paddock, project: str) -> None:
    apply(services, spec(project))
    changed = spec(project, "tr a-z A-Z <$data >/pfs/out/$(basename $data)")
    apply(services, changed, keep_results=True)
    services.files.put(f"{project}/data@main:/a", b"new")
    mixed = ended(services, changed)
    assert (mixed.datums.run, mixed.datums.reused, mixed.found) == (1, 2, 0)
    assert read(services, f"{project}/copy@main:/a") == b"NEW"
    assert read(services, f"{project}/copy@main:/b") == b"b of " + project.encode()
    services.files.put(f"{project}/data@main:/a", b"a of " + project.encode())
    back = ended(services, changed)
    assert (back.datums.run, back.carried) == (0, 1)
    other = apply(services, {**changed, "pipeline": {"project": project, "name": "other"}})
    assert other.datums.run == 3, "what was carried over serves nobody else"
    described = {**changed, "description": "the same transform"}
    assert apply(services, described).datums.run == 0
    third = spec(project, "rev <$data >/pfs/out/$(basename $data)")
    assert apply(services, third).datums.run == 3
    with pytest.raises(InvalidInput, match="exclude one another"):
        services.pipelines.apply(third, keep_results=True, reprocess=True)


def test_results_are_carried_over_several_changes(services: Paddock, project: str) -> None:
    apply(services, spec(project))
    second, third = (spec(project, f"tr a-z {to} <$data >/pfs/out/$(basename $data)") for to in ("A-Z", "B-ZA"))
    apply(services, second, keep_results=True)
    services.files.put(f"{project}/data@main:/d", b"d")
    assert ended(services, second).datums.run == 1
    last = apply(services, third, keep_results=True)
    assert (last.datums.run, last.carried) == (0, 4)
    names = {each.inputs[0].path: each.carried_from for each in services.datums.list(f"{project}/copy@{last.id}")}
    assert names == {path: f"{project}/copy version {2 if path == '/d' else 1}" for path in ("/a", "/b", "/c", "/d")}


def test_an_audit_of_a_deterministic_step_finds_nothing(services: Paddock, project: str) -> None:
    apply(services, spec(project))
    job = apply(services, spec(project), audit=0.5)
    assert job.audit is not None
    assert (job.datums.run, job.datums.reused) == (0, 3)
    assert (job.audit.checked, job.audit.differing, job.audit.findings) == (2, 0, ())
    assert services.jobs.list(pipeline=f"{project}/copy")[1].audit is None


def test_an_audit_names_what_came_out_differently_and_keeps_what_was_kept(services: Paddock, project: str) -> None:
    command = "cp $data /pfs/out/; head -c 16 /dev/urandom >/pfs/out/random-$(basename $data)"
    apply(services, spec(project, command))
    before = read(services, f"{project}/copy@main:/random-a")
    services.files.put(f"{project}/data@main:/d", b"d")
    services.process()
    services.pipelines.rerun(f"{project}/copy", audit=1.0)
    job = ended(services, spec(project, command))
    assert job.state is JobState.SUCCESS
    assert job.audit is not None
    assert (job.datums.run, job.datums.reused, job.audit.checked, job.audit.differing) == (0, 4, 4, 4)
    found = {finding.inputs: finding for finding in job.audit.findings}
    assert found["data:/a",].files == ("/random-a changed",)
    assert found["data:/a",].reason == ""
    assert read(services, f"{project}/copy@main:/random-a") == before
    states = {datum.state for datum in services.datums.list(f"{project}/copy@{job.id}")}
    assert states == {DatumState.REUSED}


def test_an_audited_datum_that_fails_is_a_finding_and_no_failure(
    services: Paddock, project: str, tmp_path: Path
) -> None:
    mark = tmp_path / "fails now"
    command = f"cp $data /pfs/out/; if test -e '{mark}'; then echo broken; exit 3; fi"
    apply(services, spec(project, command, datum_tries=1))
    mark.touch()
    services.pipelines.rerun(f"{project}/copy", audit=0.01)
    job = ended(services, spec(project, command))
    assert job.state is JobState.SUCCESS
    assert job.audit is not None
    (finding,) = job.audit.findings
    assert "exit" in finding.reason or "3" in finding.reason
    assert finding.files == ()


def test_the_home_may_audit_every_job(services: Paddock, project: str) -> None:
    apply(services, spec(project))
    before = services.cache.inspect().policy
    services.cache.set_policy(CachePolicy(audit_share=1.0))
    try:
        services.files.put(f"{project}/data@main:/d", b"d")
        job = ended(services, spec(project))
    finally:
        services.cache.set_policy(before)
    assert job.audit is not None
    assert (job.datums.run, job.datums.reused, job.audit.checked, job.audit.differing) == (1, 3, 3, 0)
