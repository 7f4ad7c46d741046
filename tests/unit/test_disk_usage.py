"""What things cost alone and shared, against what garbage collection then frees."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import InvalidInput, NotFound
from paddock.model.store_records import Usage
from paddock.runtime.disk_usage import usage_of
from paddock.runtime.garbage import collect_garbage

MIB = 1 << 20


def noise(seed: int, size: int = MIB) -> bytes:
    return random.Random(seed).randbytes(size)


def rows(paddock: EmbeddedPaddock, address: str | None = None) -> dict[str, Usage]:
    return {row.name: row for row in usage_of(paddock.home, address).rows}


def about(size: int) -> object:
    """Bytes of files, with a little for trees."""
    return pytest.approx(size, abs=20_000)


def test_repos_share_what_is_equal(paddock: EmbeddedPaddock) -> None:
    for repo in ("one", "two"):
        paddock.repos.create(repo)
        paddock.files.put(f"{repo}@main:/shared", noise(0))
    paddock.files.put("one@main:/own", noise(1, 2 * MIB))
    found = rows(paddock)
    one, two = found["default/one"], found["default/two"]
    assert (one.files, one.logical_bytes) == (2, 3 * MIB)
    assert (one.stored_bytes, one.alone_bytes, one.shared_bytes) == (about(3 * MIB), about(2 * MIB), about(MIB))
    assert (two.stored_bytes, two.alone_bytes) == (about(MIB), about(0))
    assert found["kept results and logs"].stored_bytes == 0
    paddock.repos.delete("one")
    assert collect_garbage(paddock.home, grace_seconds=0).freed_bytes == about(one.alone_bytes)


def test_commits_and_branches(paddock: EmbeddedPaddock) -> None:
    paddock.repos.create("data")
    for seed in range(3):
        paddock.files.put("data@main:/changing", noise(seed))
    paddock.branches.create("data@side", head="data@main^")
    paddock.files.put("data@side:/more", noise(7, 2 * MIB))
    found = rows(paddock, "data")
    newest = paddock.commits.inspect("data@main").id
    assert found["default/data"].stored_bytes == about(5 * MIB)
    assert found["default/data@main"].stored_bytes == about(3 * MIB)
    assert found["default/data@main"].alone_bytes == about(MIB)
    assert found["default/data@side"].alone_bytes == about(2 * MIB)
    assert found[f"default/data@{newest}"].alone_bytes == about(MIB)
    assert rows(paddock, "data@main") == {f"default/data@{newest}": found[f"default/data@{newest}"]}


def test_unknown_names(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing"):
        usage_of(paddock.home, "nothing")
    with pytest.raises(InvalidInput, match="names a file"):
        usage_of(paddock.home, "data@main:/file")
