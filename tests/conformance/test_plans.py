"""Plans, explanations and previews: the same embedded and over HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from paddock.model.errors import InvalidInput, LimitExceeded, NotFound
from paddock.model.plans import JobPlan, PlannedAction
from paddock.model.records import ApplyOutcome, DatumState
from paddock.model.services import Paddock

_numbers = itertools.count()


@pytest.fixture
def project(services: Paddock) -> str:
    """A project with a repo `data` of two files and a directory; results of other projects can't serve for them."""
    name = services.projects.create(f"p{next(_numbers)}").name
    services.repos.create(f"{name}/data")
    own = name.encode()
    commit(services, f"{name}/data@main", {"/a": b"1" + own, "/b": b"2" + own, "/d/x": b"3" + own})
    return name


def commit(paddock: Paddock, branch: str, files: Mapping[str, bytes | None]) -> None:
    """One commit that puts these files, and deletes those that are None."""
    paddock.commits.start(branch)
    for path, content in files.items():
        if content is None:
            paddock.files.delete(f"{branch}:{path}")
        else:
            paddock.files.put(f"{branch}:{path}", content)
    paddock.commits.finish(branch)


def copy(project: str, **fields: Any) -> dict[str, Any]:
    transform = {"cmd": ["sh", "-c", "cp -r $data /pfs/out/"], **fields.pop("transform", {})}
    return {
        "pipeline": {"project": project, "name": "copy"},
        "transform": transform,
        "input": {"pfs": {"project": project, "repo": "data", "glob": "/*"}},
        **fields,
    }


def shown(plan: JobPlan) -> dict[str, tuple[PlannedAction, tuple[str, ...]]]:
    return {each.inputs[0].path: (each.action, each.reasons) for each in plan.datums}


def counts(plan: JobPlan) -> tuple[int, int, int, int]:
    return plan.total, plan.run, plan.reuse, plan.drop


def test_a_plan_before_anything_ran_changes_nothing(services: Paddock, project: str) -> None:
    plan = services.pipelines.plan(copy(project), limit=2)
    assert counts(plan) == (3, 3, 0, 0)
    assert (plan.outcome, plan.base, plan.seconds_per_datum, plan.estimates) == (ApplyOutcome.CREATED, None, None, ())
    assert (len(plan.datums), plan.truncated) == (2, 1)
    assert plan.datums[0].reasons == ("no job of this pipeline has succeeded yet",)
    assert not services.pipelines.list(project=project)
    assert [repo.name for repo in services.repos.list(project=project)] == ["data"]
    with pytest.raises(NotFound, match="nowhere"):
        services.pipelines.plan(copy(project, input={"pfs": {"project": project, "repo": "nowhere", "glob": "/"}}))


def test_each_datum_of_a_plan_says_why_and_the_job_does_what_it_said(services: Paddock, project: str) -> None:
    services.pipelines.apply(copy(project))
    services.process()
    base = services.jobs.list(pipeline=f"{project}/copy")[0].id
    services.pipelines.stop(f"{project}/copy")
    commit(services, f"{project}/data@main", {"/a": b"changed", "/b": None, "/c": b"new", "/d/x": b"4", "/d/y": b"5"})
    plan = services.pipelines.plan(copy(project))
    assert counts(plan) == (3, 3, 0, 1)
    assert (plan.outcome, plan.base, plan.changes) == (ApplyOutcome.UNCHANGED, base, ())
    assert shown(plan) == {
        "/a": (PlannedAction.RUN, ("data:/a changed",)),
        "/c": (PlannedAction.RUN, ("data:/c was added",)),
        "/d": (PlannedAction.RUN, ("data:/d changed: /d/x changed, /d/y added",)),
        "/b": (PlannedAction.DROP, ("data:/b was removed",)),
    }
    assert plan.seconds_per_datum is not None
    assert [each.workers for each in plan.estimates] == [1, 2]
    assert plan.estimates[0].seconds == pytest.approx(3 * plan.seconds_per_datum)
    assert plan.estimates[1].seconds == pytest.approx(2 * plan.seconds_per_datum)
    assert plan.estimates[0].worker_hours == pytest.approx(3 * plan.seconds_per_datum / 3600)

    services.pipelines.start(f"{project}/copy")
    services.process()
    job = services.jobs.list(pipeline=f"{project}/copy")[0]
    assert (job.datums.total, job.datums.run, job.datums.reused) == (3, 3, 0)
    explained = {
        datum.inputs[0].path: services.datums.explain(f"{project}/copy@{job.id}", datum.id)
        for datum in services.datums.list(f"{project}/copy@{job.id}")
    }
    assert {path: each.reasons for path, each in explained.items()} == {
        path: reasons for path, (action, reasons) in shown(plan).items() if action is PlannedAction.RUN
    }
    assert {each.base for each in explained.values()} == {base}


def test_a_changed_transform_is_named_by_field_and_a_revert_is_found_in_the_cache(
    services: Paddock, project: str
) -> None:
    services.pipelines.apply(copy(project))
    services.process()
    first = services.jobs.list(pipeline=f"{project}/copy")[0].id
    other = copy(project, transform={"cmd": ["sh", "-c", "cp -r $data /pfs/out/; true"], "env": {"LEVEL": "9"}})
    plan = services.pipelines.plan(other)
    assert counts(plan) == (3, 3, 0, 0)
    assert plan.outcome is ApplyOutcome.UPDATED
    assert plan.changes == ("transform.cmd changed", "transform.env.LEVEL changed")
    assert plan.datums[0].reasons == plan.changes
    services.pipelines.apply(other)
    services.process()
    back = services.pipelines.plan(copy(project))
    assert counts(back) == (3, 0, 3, 0)
    assert shown(back)["/a"][0] is PlannedAction.REUSE
    assert first in shown(back)["/a"][1][0]
    assert services.pipelines.plan(copy(project), reprocess=True).run == 3

    head = services.jobs.list(pipeline=f"{project}/copy")[0].id
    datum = next(services.datums.list(f"{project}/copy@{head}"))
    assert services.datums.explain(f"{project}/copy@{head}", datum.id).reasons == plan.changes
    services.pipelines.rerun(f"{project}/copy")
    services.process()
    again = services.datums.explain(f"{project}/copy@head", datum.id)
    assert again.datum.state is DatumState.REUSED
    assert again.reasons == (f"job {head} computed it for equal files and an equal transform",)


def test_changed_code_files_are_named(services: Paddock, project: str, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "run.sh").write_text("cp -r $data /pfs/out/\n")
    (code / "old.sh").write_text("")
    spec = copy(project, transform={"cmd": ["sh", "run.sh"], "code": "code"})
    with pytest.raises(InvalidInput, match=r"transform\.code"):
        services.pipelines.plan(spec)
    services.pipelines.apply(spec, code=code)
    services.process()
    assert counts(services.pipelines.plan(spec, code=code)) == (3, 0, 3, 0)
    (code / "run.sh").write_text("cp -r $data /pfs/out/ # changed\n")
    (code / "old.sh").unlink()
    (code / "new.sh").write_text("")
    plan = services.pipelines.plan(spec, code=code)
    assert plan.changes == ("code file new.sh added", "code file old.sh removed", "code file run.sh changed")
    assert plan.run == 3


def test_a_preview_lists_datums_with_captures_and_keys(services: Paddock, project: str) -> None:
    commit(services, f"{project}/data@main", {"/x-1.txt": b"1", "/x-2.txt": b"2"})

    def leaf(name: str, glob: str, **fields: Any) -> dict[str, Any]:
        return {"pfs": {"project": project, "repo": "data", "name": name, "glob": glob, **fields}}

    preview = services.datums.preview(leaf("in", "/(?)-(*).txt"), limit=1)
    assert (preview.total, [each.matches for each in preview.inputs], preview.warnings) == (2, [2], ())
    ((file,),) = [datum.files for datum in preview.datums]
    assert (file.path, file.captures, file.key, file.directory) == ("/x-1.txt", ("x", "1"), "", False)

    grouped = services.datums.preview({"group": [leaf("in", "/(?)-(*).txt", group_by="$1")]})
    assert [[file.key for file in datum.files] for datum in grouped.datums] == [["x", "x"]]

    lost = {"join": [leaf("l", "/(?)", join_on="$1"), leaf("r", "/x-(*).txt", join_on="$1")]}
    nothing = services.datums.preview(copy(project, input=lost))
    assert nothing.total == 0
    assert "no key is in all inputs" in nothing.warnings[0]
    empty = services.datums.preview(leaf("in", "/none*"))
    assert "/none* matches nothing" in empty.warnings[0]


def test_a_preview_warns_of_a_cross_that_explodes(services: Paddock, project: str) -> None:
    commit(services, f"{project}/data@main", {f"/many/{number:02}": b"" for number in range(60)})
    names = ("a", "b", "c")
    leaves = [
        {"pfs": {"project": project, "repo": "data", "name": name, "glob": "/many/*"}} for name in (*names, "d", "e")
    ]
    preview = services.datums.preview({"cross": leaves[:3]}, limit=0)
    assert preview.total == 60**3
    assert "the cross of a, b, c makes 216,000 datums (60 x 60 x 60)" in preview.warnings[0]
    with pytest.raises(LimitExceeded):
        services.datums.preview({"cross": leaves})
