"""Split files over many edits: the plan of a change is the plan of everything, and cuts that are carried on are those of a fresh look."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddock.model.ids import Digest
from paddock.model.splits import SplitBy, SplitRule
from paddock.pipelines.inputs import leaves_of
from paddock.pipelines.spec import validate_spec
from paddock.runtime.cut_files import CutFiles, File, StoredSource
from paddock.runtime.job_tables import DATUMS
from paddock.runtime.leaf_matches import LeafMatches
from paddock.runtime.plan import InputCommit, Plan
from paddock.runtime.plan_changed import plan_changed
from paddock.runtime.plan_request import Base, PlanRequest
from paddock.runtime.plan_whole import plan_whole
from paddock.storage.chunking import ChunkingParameters
from paddock.storage.splitting.cutting import cut_file, named_by_content
from paddock.storage.splitting.kinds import CUTS
from paddock.storage.trees import TreeRow, tree_table
from paddock.versions.home import Home

CHUNKS = ChunkingParameters(64, 256, 1024)
PLACE = ("default", "data", "main")
TRANSFORM = Digest(b"t" * 32)

ROW = st.sampled_from([b"1,a", b'2,"b\nc"', b"3,dddddddddddddddddddddddddddddd", b"", b'4,""""'])
ROWS = st.lists(st.tuples(ROW, st.integers(1, 40)), max_size=12).map(
    lambda runs: [
        b"%s,%d" % (row, number) if row else row for row, times in runs for number in range(times if row else 1)
    ]
)
EDIT = st.tuples(st.sampled_from(["append", "insert", "delete", "replace"]), st.integers(0, 300), ROWS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    opened = Home.open(tmp_path_factory.mktemp("split") / ".paddock", create=True)
    yield opened
    opened.close()


def store(home: Home, rows: list[bytes]) -> tuple[Digest, File]:
    """A tree with one file of these rows, cut into tiny chunks."""
    data = b"id,text,n\n" + b"".join(row + b"\n" for row in rows)
    with home.chunks.writer() as writer:
        writer.chunking = CHUNKS
        stored = writer.put_stream(io.BytesIO(data))
        row = TreeRow("/a.csv", b"", stored.size, stored.digest, False, stored.chunks)
        tree = home.trees.merge(home.trees.empty(), tree_table([row]), [], [], writer)
        writer.flush()
    return tree, File(row.path, row.size, row.digest, row.chunks, executable=False)


def edited(rows: list[bytes], edit: tuple[str, int, list[bytes]]) -> list[bytes]:
    kind, place, more = edit
    match kind:
        case "append":
            return rows + more
        case "insert":
            return rows[:place] + more + rows[place:]
        case "delete":
            return rows[:place] + rows[place + len(more) :]
    return rows[:place] + more + rows[place + len(more) :]


def settle(home: Home, plan: Plan) -> Digest:
    """The datums table of a job in which all datums of the plan succeeded."""
    for position in range(len(plan)):
        plan.reuse(position, 2, b"b" * 32, position, b"j" * 16)
    with home.chunks.writer() as writer:
        root = home.tables.merge_sorted(DATUMS, plan.base_datums, plan.tables(), plan.dropped, writer)
        writer.flush()
    return root


SPLITS = ["csv:1", "csv:7", {"format": "csv", "bytes": 100}]
SPLITS += [{"format": "csv", "records": most, "by": "content"} for most in (1, 5)]


@pytest.mark.parametrize("split", SPLITS, ids=str)
@given(rows=ROWS, edits=st.lists(EDIT, min_size=1, max_size=3))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plans_of_changes_equal_plans_of_everything(
    home: Home, split: object, rows: list[bytes], edits: list[tuple[str, int, list[bytes]]]
) -> None:
    node = {"pfs": {"repo": "data", "glob": "/*.csv", "split": split}}
    spec = validate_spec({"pipeline": "p", "transform": {"cmd": ["true"]}, "input": node}).spec
    (leaf,) = leaves_of(spec)
    assert leaf.split is not None
    finder = CutFiles(home)
    matches = LeafMatches(home.trees, finder.find)
    tree, _ = store(home, rows)
    request = PlanRequest(spec, TRANSFORM, {PLACE: InputCommit("a", tree)}, None, reuse=True)
    table = settle(home, plan_whole(matches, request))
    for edit in edits:
        base = Base(table, home.trees.empty(), spec.input, TRANSFORM, {PLACE: tree}, settled=True)
        rows = edited(rows, edit)
        tree, file = store(home, rows)
        request = PlanRequest(spec, TRANSFORM, {PLACE: InputCommit("b", tree)}, base, reuse=True)
        whole, changed = plan_whole(matches, request), plan_changed(matches, request)
        if changed is not None:
            assert list(changed.ids) == list(whole.ids)
            assert (changed.total, sorted(changed.dropped)) == (whole.total, sorted(whole.dropped))
        fresh = fresh_cuts(home, file, leaf.split)
        assert list(kept_cuts(home, finder.find(leaf, leaf.split, [file])[file.digest].root)) == fresh
        from_nothing = PlanRequest(spec, TRANSFORM, request.inputs, None, reuse=True)
        expected = settle(home, plan_whole(matches, from_nothing))
        table = settle(home, whole)
        assert names_and_keys(home, table) == names_and_keys(home, expected)


def fresh_cuts(home: Home, file: File, rule: SplitRule) -> list[dict[str, object]]:
    rows, _ = cut_file(StoredSource(home.chunks, file), rule)
    if rule.by is SplitBy.CONTENT:
        names = pa.array(named_by_content(rows.column("digest").to_pylist()), pa.string())
        rows = rows.set_column(0, rows.schema.field(0), names)
    return sorted(rows.to_pylist(), key=lambda row: str(row["name"]))


def kept_cuts(home: Home, root: Digest) -> Iterator[dict[str, object]]:
    for rows in home.tables.scan(CUTS, root):
        yield from rows.to_pylist()


def names_and_keys(home: Home, root: Digest) -> list[tuple[str, bytes]]:
    rows = (row for part in home.tables.scan(DATUMS, root) for row in part.to_pylist())
    return [(row["name"], row["key"]) for row in rows]
