"""Records as datums: the same embedded and over HTTP."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paddock.model.errors import InvalidInput
from paddock.model.plans import PlannedAction
from paddock.model.records import Datum, DatumState, Job, JobState
from paddock.model.services import Paddock

ROWS = [b"%d,name %d\n" % (number, number) for number in range(1, 8)]
HEAD = b"id,name\n"


_numbers = itertools.count()


@pytest.fixture
def project(services: Paddock) -> str:
    """A project with a repo `data` that holds one CSV file of seven records; results of other projects can't serve for them."""
    name = services.projects.create(f"p{next(_numbers)}").name
    services.repos.create(f"{name}/data")
    put(services, name, [*ROWS, b"8,%s\n" % name.encode()])
    return name


def put(paddock: Paddock, project: str, rows: list[bytes], path: str = "/a.csv") -> None:
    paddock.files.put(f"{project}/data@main:{path}", HEAD + b"".join(rows))


def leaf(project: str, split: Any = "csv:2", **fields: Any) -> dict[str, Any]:
    return {"pfs": {"project": project, "repo": "data", "glob": "/*.csv", "split": split, **fields}}


def copy(project: str, node: Mapping[str, Any], command: str = "cp -rL /pfs/data/* /pfs/out/") -> dict[str, Any]:
    return {
        "pipeline": {"project": project, "name": "copy"},
        "transform": {"cmd": ["sh", "-c", command.replace("/pfs/", "$PADDOCK_PFS/")]},
        "input": node,
    }


def run(paddock: Paddock, spec: Mapping[str, Any]) -> Job:
    paddock.pipelines.apply(spec)
    return newest(paddock, f"{spec['pipeline']['project']}/copy")


def newest(paddock: Paddock, pipeline: str) -> Job:
    (job,) = paddock.jobs.wait([f"{pipeline}@head"])
    return job


def outputs(paddock: Paddock, project: str) -> dict[str, bytes]:
    found = paddock.files.glob(f"{project}/copy@main:/**")
    return {
        each.path: b"".join(paddock.files.read(f"{project}/copy@main:{each.path}"))
        for each in found
        if each.kind == "file"
    }


def listed(paddock: Paddock, project: str) -> dict[tuple[int | None, int | None], Datum]:
    datums = paddock.datums.list(f"{project}/copy@head")
    return {(datum.inputs[0].first_record, datum.inputs[0].last_record): datum for datum in datums}


def test_each_datum_is_a_file_of_some_records(services: Paddock, project: str) -> None:
    job = run(services, copy(project, leaf(project, "csv:3")))
    assert (job.state, job.datums.run) == (JobState.SUCCESS, 3)
    assert outputs(services, project) == {
        "/a.csv/a-000000000001.csv": HEAD + b"".join(ROWS[:3]),
        "/a.csv/a-000000000004.csv": HEAD + b"".join(ROWS[3:6]),
        "/a.csv/a-000000000007.csv": HEAD + ROWS[6] + b"8,%s\n" % project.encode(),
    }
    datums = listed(services, project)
    assert list(datums) == [(1, 3), (4, 6), (7, 8)]
    (piece,) = datums[4, 6].inputs
    assert (piece.path, piece.piece, piece.size_bytes) == ("/a.csv", "a-000000000004.csv", len(HEAD) + 27)


def test_an_append_computes_the_appended_records_only(services: Paddock, project: str) -> None:
    spec = copy(project, leaf(project))
    run(services, spec)
    put(services, project, [*ROWS, b"8,%s\n" % project.encode(), b"9,x\n"])
    job = newest(services, f"{project}/copy")
    assert (job.datums.total, job.datums.run, job.datums.reused) == (5, 1, 4)
    datums = listed(services, project)
    assert [datum.state for datum in datums.values()] == [DatumState.REUSED] * 4 + [DatumState.SUCCESS]
    explained = services.datums.explain(f"{project}/copy@head", datums[9, 9].id)
    assert explained.reasons == ("data:/a.csv (a-000000000009.csv) is new",)


def test_a_plan_names_the_pieces_and_why(services: Paddock, project: str) -> None:
    spec = copy(project, leaf(project))
    run(services, spec)
    services.pipelines.stop(f"{project}/copy")
    put(services, project, [ROWS[0], b"2,other\n", *ROWS[2:4]])
    plan = services.pipelines.plan(spec)
    assert (plan.total, plan.run, plan.drop) == (2, 1, 2)
    shown = {
        (each.inputs[0].path, each.inputs[0].first_record, each.inputs[0].last_record): (each.action, each.reasons)
        for each in plan.datums
    }
    assert shown == {
        ("/a.csv", 1, 2): (PlannedAction.RUN, ("data:/a.csv (a-000000000001.csv) changed",)),
        ("/a.csv", 5, 6): (PlannedAction.DROP, ("data:/a.csv (a-000000000005.csv) is no more",)),
        ("/a.csv", 7, 8): (PlannedAction.DROP, ("data:/a.csv (a-000000000007.csv) is no more",)),
    }


@pytest.mark.parametrize(("by", "run_again"), [("position", 7), ("content", 1)])
def test_an_insertion_in_the_middle(services: Paddock, project: str, by: str, run_again: int) -> None:
    rows = [*ROWS, b"8,%s\n" % project.encode()]
    spec = copy(project, leaf(project, {"format": "csv", "records": 1, "by": by}))
    run(services, spec)
    put(services, project, [*rows[:2], b"new,%s\n" % project.encode(), *rows[2:]])
    job = newest(services, f"{project}/copy")
    assert (job.datums.total, job.datums.run) == (9, run_again)
    assert sorted(outputs(services, project).values()) == sorted(
        HEAD + row for row in [*rows, b"new,%s\n" % project.encode()]
    )


def test_equal_records_by_content_are_datums_of_their_own(services: Paddock, project: str) -> None:
    put(services, project, [ROWS[0], ROWS[1], ROWS[0], ROWS[0]])
    run(services, copy(project, leaf(project, {"format": "csv", "by": "content"})))
    assert len(outputs(services, project)) == 4
    assert set(listed(services, project)) == {(1, 1), (2, 2), (3, 3), (4, 4)}


def test_a_preview_shows_the_records(services: Paddock, project: str) -> None:
    preview = services.datums.preview(leaf(project), limit=2)
    assert (preview.total, preview.inputs[0].matches) == (4, 4)
    files = [each.files[0] for each in preview.datums]
    assert [(each.path, each.piece, each.first_record, each.last_record) for each in files] == [
        ("/a.csv", "a-000000000001.csv", 1, 2),
        ("/a.csv", "a-000000000003.csv", 3, 4),
    ]


def test_a_result_leads_back_to_its_records(services: Paddock, project: str) -> None:
    run(services, copy(project, leaf(project)))
    origin = services.why(f"{project}/copy@main:/a.csv/a-000000000003.csv")
    assert origin.datum is not None
    assert (origin.datum.inputs[0].first_record, origin.datum.inputs[0].last_record) == (3, 4)
    assert [each.file.rpartition(":")[2] for each in origin.inputs] == ["/a.csv"]


def test_pieces_combine_with_other_inputs(services: Paddock, project: str) -> None:
    services.repos.create(f"{project}/more")
    services.files.put(f"{project}/more@main:/a.txt", b"a")
    services.files.put(f"{project}/more@main:/b.txt", b"b")
    put(services, project, ROWS[:2], "/b.csv")
    other = {"pfs": {"project": project, "repo": "more", "glob": "/(*).txt", "join_on": "$1"}}
    keyed = leaf(project, "csv:4", glob="/(*).csv", join_on="$1", group_by="$1")
    name = 'cat /pfs/*/*.csv/*.csv /pfs/more/* > "/pfs/out/$PADDOCK_DATUM_ID"'
    for node, datums in (
        ({"join": [keyed, other]}, 3),
        ({"cross": [leaf(project, "csv:4"), other]}, 6),
        ({"union": [leaf(project, "csv:4"), leaf(project, "csv:1", glob="/b.csv", name="single")]}, 5),
        ({"group": [keyed]}, 2),
    ):
        found = services.datums.preview(node)
        assert found.total == datums, node
    job = run(services, copy(project, {"join": [keyed, other]}, name))
    assert (job.state, job.datums.run) == (JobState.SUCCESS, 3)
    assert sorted(outputs(services, project).values()) == sorted(
        [
            HEAD + b"".join(ROWS[:4]) + b"a",
            HEAD + b"".join(ROWS[4:]) + b"8,%s\n" % project.encode() + b"a",
            HEAD + b"".join(ROWS[:2]) + b"b",
        ]
    )
    put(services, project, [*ROWS[:4], b"9,%s\n" % project.encode()], "/b.csv")
    job = newest(services, f"{project}/copy")
    assert (job.datums.total, job.datums.run, job.datums.reused) == (4, 2, 2)


def test_parquet_row_groups_are_files_for_the_command(services: Paddock, project: str) -> None:
    table = pa.table({"id": list(range(10)), "owner": [project] * 10})
    target = io.BytesIO()
    pq.write_table(table, target, row_group_size=4)
    services.files.put(f"{project}/data@main:/t.parquet", target.getvalue())
    run(services, copy(project, leaf(project, "parquet", glob="/*.parquet")))
    found = [pq.read_table(io.BytesIO(content)) for _, content in sorted(outputs(services, project).items())]
    assert pa.concat_tables(found).equals(table)
    assert list(listed(services, project)) == [(1, 4), (5, 8), (9, 10)]


def test_a_broken_file_fails_the_job_with_its_place(services: Paddock, project: str) -> None:
    put(services, project, [ROWS[0], b'2,"open\n', ROWS[2]])
    message = (
        f"input 'data': {project}/data@main:/a.csv opens a quote that is never closed; close it (record 2, byte 19)"
    )
    with pytest.raises(InvalidInput) as raised:
        services.datums.preview(leaf(project))
    assert str(raised.value) == message
    job = run(services, copy(project, leaf(project)))
    assert (job.state, job.reason) == (JobState.FAILURE, f"planning failed: {message}")
    put(services, project, ROWS)
    assert newest(services, f"{project}/copy").state is JobState.SUCCESS


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("csw", "'csw' does not say how to split"),
        ("csv:", "'csv:' does not say how to split"),
        ({"format": "xml"}, "write 'csv', 'jsonl', 'lines', 'parquet' or 'tar'"),
        ({"format": "csv", "records": 0}, "must be at least 1"),
        ({"format": "csv", "records": 1, "bytes": 5}, "keep one of them"),
        ({"format": "csv", "bytes": 5, "by": "content"}, "pieces by content are limited by records"),
        ({"format": "tar", "header": True}, "tar files have no header line"),
        ({"records": 5}, "is missing"),
    ],
)
def test_a_wrong_split_is_explained(services: Paddock, project: str, split: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        services.datums.preview(leaf(project, split))


def test_split_wants_files(services: Paddock, project: str) -> None:
    with pytest.raises(InvalidInput, match="write a glob that matches files"):
        services.datums.preview(leaf(project, glob="/"))
