"""docs/reference/format.md is exact: a reader written from it alone finds what the services say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_home
import minimal_reader
import pytest
from blake3 import blake3

from paddock.client.embedded import EmbeddedPaddock
from paddock.runtime.batch_format import RESULTS
from paddock.runtime.job_tables import CACHE, DATUMS
from paddock.storage.segments import TableKind
from paddock.storage.table_roots import root_kind
from paddock.storage.tree_kinds import FILES, TREE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "format.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("compat") / "home"
    return path, make_home.fill(path)


@pytest.fixture
def reader(filled: tuple[Path, dict[str, Any]]) -> Iterator[minimal_reader.Home]:
    home = minimal_reader.Home(filled[0])
    yield home
    home.close()


def read_trees(home: minimal_reader.Home) -> dict[str, dict[str, list[Any]]]:
    """{project/repo@commit: {path: [bytes, digest of the bytes]}} of every finished commit."""
    trees = {}
    for project, repo, commit, tree in home.query(
        "SELECT projects.name, repos.name, set_id, tree FROM commits JOIN repos ON repos.id = commits.repo_id"
        " JOIN projects ON projects.id = repos.project_id WHERE commits.state = 'finished'"
    ):
        rows = home.table(minimal_reader.TREE, bytes.fromhex(tree))
        trees[f"{project}/{repo}@{commit}"] = {
            row["path"]: [row["size"], blake3(home.content(row)).hexdigest()] for row in rows
        }
    return trees


@pytest.mark.parametrize("kind", [TREE, FILES, DATUMS, CACHE, RESULTS, root_kind(TREE)], ids=lambda kind: kind.name)
def test_the_page_has_the_schema_of_every_kind(kind: TableKind) -> None:
    assert kind.schema_text.replace("root:tree:", "root:<kind>:") in PAGE.splitlines()
    assert kind.schema_text.replace("root:tree:", "root:<kind>:") in {
        minimal_reader.TREE,
        minimal_reader.FILES,
        minimal_reader.DATUMS,
        minimal_reader.CACHE,
        minimal_reader.RESULTS,
        "root:<kind>:first=binary,last=binary,rows=int64,size=int64,digest=fixed(32)",
    }


def test_every_file_is_read_by_the_page(reader: minimal_reader.Home, filled: tuple[Path, dict[str, Any]]) -> None:
    finished = {
        f"{name}@{commit['id']}"
        for name, commits in filled[1]["commits"].items()
        for commit in commits
        if commit["state"] == "finished"
    }
    found = read_trees(reader)
    assert found == {address: filled[1]["files"][address] for address in finished}
    assert len(found) > 8


def test_datums_results_and_logs_are_read_by_the_page(
    reader: minimal_reader.Home, filled: tuple[Path, dict[str, Any]]
) -> None:
    batches = set()
    for project, pipeline, set_id, root in reader.query(
        "SELECT projects.name, pipelines.name, jobs.set_id, datums_root FROM jobs JOIN pipelines ON pipelines.id = pipeline_id"
        " JOIN projects ON projects.id = pipelines.project_id WHERE datums_root <> ''"
    ):
        address = f"{project}/{pipeline}@{set_id}"
        expected = {datum["id"]: datum for datum in filled[1]["jobs"][address][1]}
        rows = list(reader.table(minimal_reader.DATUMS, bytes.fromhex(root)))
        assert {row["id"].hex() for row in rows} == expected.keys()
        for row in rows:
            datum = expected[row["id"].hex()]
            assert (row["key"].hex(), row["paths"]) == (datum["key"], [each["path"] for each in datum["inputs"]])
            assert row["name"] == f"{row['paths'][0]} {row['id'].hex()}"
            header = json.loads(reader.chunk(row["batch"]))
            results = [
                line for digest in header["results"] for line in read_segment(reader, minimal_reader.RESULTS, digest)
            ]
            result = results[row["ordinal"]]
            assert (result["id"], result["key"], len(results)) == (row["id"], row["key"], header["datums"])
            assert (result["state"] < 2, result["exit_code"]) == (bool(row["success"]), datum["exit_code"])
            log = b"".join(reader.chunk(bytes.fromhex(digest)) for digest, _ in header["log"])
            part = log[result["log_offset"] : result["log_offset"] + result["log_bytes"]]
            if datum["computed_by"] == set_id:
                assert part.decode() == filled[1]["logs"][address][datum["id"]]
            batches.add(row["batch"])
    (caches,) = zip(*reader.query("SELECT root FROM result_runs"), strict=True)
    kept = {row["batch"] for root in caches for row in reader.table(minimal_reader.CACHE, bytes.fromhex(root))}
    assert kept <= batches
    assert len(batches) > 3


def read_segment(home: minimal_reader.Home, schema: str, digest: str) -> list[dict[str, Any]]:
    return minimal_reader.read_segment(schema, home.chunk(bytes.fromhex(digest)))


def test_segments_and_chunks_are_cut_where_the_page_says(tmp_path: Path) -> None:
    last_of_segment = next(
        name for name in map(str, range(1 << 20)) if minimal_reader.key_hash(b"/" + name.encode()) & 0x3FFF == 0
    )
    with EmbeddedPaddock.open(tmp_path / "home") as paddock:
        paddock.repos.create("data")
        source = tmp_path / "source"
        source.mkdir()
        (source / "random").write_bytes(random.Random(3).randbytes(2_500_000))
        (source / last_of_segment).write_bytes(b"its segment ends here")
        (source / "0").write_bytes(b"before")
        paddock.files.put_tree("data", source)
    home = minimal_reader.Home(tmp_path / "home")
    (files,) = read_trees(home).values()
    assert len(files) == 3
    ((tree,),) = home.query("SELECT tree FROM commits")
    assert max(len(row["chunks"]) for row in home.table(minimal_reader.TREE, bytes.fromhex(tree))) > 1
    root = home.chunk(bytes.fromhex(tree))
    segments = minimal_reader.read_segment(root_kind(TREE).schema_text, root)
    assert [segment["last"].decode() for segment in segments] == [f"/{last_of_segment}", "/random"]
    home.close()
