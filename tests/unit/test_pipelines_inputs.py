"""Datum rules, one small case each; the random ones are in tests/property."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from paddock.model.errors import InvalidInput, LimitExceeded
from paddock.pipelines import inputs
from paddock.pipelines.inputs import DatumSet, Leaf, leaves, plan_datums, preview_datums
from paddock.pipelines.models import Input
from paddock.pipelines.spec import validate_spec
from paddock.testing.matches import FakeMatches, match_paths

A = ["/1", "/2", "/3"]
B = ["/2", "/3", "/4"]


def input_of(node: dict[str, Any]) -> Input:
    return validate_spec({"pipeline": "p", "transform": {"cmd": ["true"]}, "input": node}).spec.input


def pfs(name: str, glob: str = "/(*)", *, repo: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"pfs": {"name": name, "repo": repo or name, "glob": glob, **fields}}


def matches_of(node: Input, trees: dict[str, Sequence[str]]) -> list[FakeMatches]:
    return [match_paths(leaf.glob, trees[leaf.repo]) for leaf in leaves(node)]


def rows(planned: DatumSet, found: Sequence[Leaf], matches: Sequence[FakeMatches]) -> list[str]:
    """Each datum as text: `a:/1 b:/2`."""
    texts = []
    for first, last in zip(planned.offsets[:-1].tolist(), planned.offsets[1:].tolist(), strict=True):
        pairs = zip(planned.leaf[first:last].tolist(), planned.match[first:last].tolist(), strict=True)
        texts.append(" ".join(f"{found[leaf].name}:{matches[leaf].paths[match]}" for leaf, match in pairs))
    return texts


def plan(node: dict[str, Any], **trees: Sequence[str]) -> list[str]:
    built = input_of(node)
    matches = matches_of(built, trees)
    return rows(plan_datums(built, matches), leaves(built), matches)


def test_each_match_is_a_datum() -> None:
    assert plan(pfs("a"), a=A) == ["a:/1", "a:/2", "a:/3"]
    assert plan(pfs("a", "/"), a=A) == ["a:/"]
    assert plan(pfs("a", "/*"), a=["/d/x", "/d/y", "/e"]) == ["a:/d", "a:/e"]
    assert plan(pfs("a"), a=[]) == []


def test_union_is_one_after_another() -> None:
    assert plan({"union": [pfs("b"), pfs("a")]}, a=["/1", "/2"], b=["/1"]) == ["a:/1", "a:/2", "b:/1"]


def test_cross_is_every_combination() -> None:
    node = {"cross": [pfs("a"), pfs("b")]}
    assert plan(node, a=["/1", "/2"], b=["/x", "/y"]) == ["a:/1 b:/x", "a:/1 b:/y", "a:/2 b:/x", "a:/2 b:/y"]
    assert plan(node, a=["/1"], b=[]) == []


def test_join_takes_keys_that_all_inputs_have() -> None:
    node = {"join": [pfs("a", join_on="$1"), pfs("b", join_on="$1")]}
    assert plan(node, a=A, b=B) == ["a:/2 b:/2", "a:/3 b:/3"]


def test_join_makes_every_combination_within_a_key() -> None:
    glob = "/(?)*"
    node = {"join": [pfs("a", glob, join_on="$1"), pfs("b", glob, join_on="$1")]}
    found = plan(node, a=["/1x", "/1y", "/2x"], b=["/1p", "/1q", "/3p"])
    assert found == ["a:/1x b:/1p", "a:/1x b:/1q", "a:/1y b:/1p", "a:/1y b:/1q"]


def test_outer_join_keeps_its_files_where_others_lack_the_key() -> None:
    node = {"join": [pfs("a", join_on="$1", outer_join=True), pfs("b", join_on="$1")]}
    assert sorted(plan(node, a=A, b=B)) == ["a:/1", "a:/2 b:/2", "a:/3 b:/3"]
    both = {"join": [pfs("a", join_on="$1", outer_join=True), pfs("b", join_on="$1", outer_join=True)]}
    assert sorted(plan(both, a=A, b=B)) == ["a:/1", "a:/2 b:/2", "a:/3 b:/3", "b:/4"]


def test_outer_join_of_three_combines_the_outer_ones_that_have_the_key() -> None:
    node = {
        "join": [
            pfs("a", "/(?)*", join_on="$1", outer_join=True),
            pfs("b", "/(?)*", join_on="$1", outer_join=True),
            pfs("c", "/(?)*", join_on="$1"),
        ]
    }
    trees = {"a": ["/1x", "/1y"], "b": ["/1p", "/2p"], "c": ["/2k", "/3k"]}
    assert sorted(plan(node, **trees)) == ["a:/1x b:/1p", "a:/1y b:/1p", "b:/2p"]


def test_group_puts_files_of_one_key_together() -> None:
    node = {"group": [pfs("a", "/(?)*", group_by="$1"), pfs("b", "/(?)*", group_by="$1")]}
    assert plan(node, a=["/1x", "/1y", "/2x"], b=["/1p"]) == ["a:/1x a:/1y b:/1p", "a:/2x"]


def test_group_of_a_join_flattens_pairs_each_file_once_under_its_own_key() -> None:
    left = pfs("a", "/(?)(?)", join_on="$1", group_by="$2")
    right = pfs("b", "/(?)(?)", join_on="$1", group_by="$2")
    found = plan({"group": [{"join": [left, right]}]}, a=["/1x", "/1y"], b=["/1x", "/1z", "/2x"])
    assert found == ["a:/1x b:/1x", "a:/1y", "b:/1z"]


def test_join_of_a_cross_flattens_it() -> None:
    cross = {"cross": [pfs("a", join_on="$1"), pfs("b", join_on="$1")]}
    found = plan({"join": [cross, pfs("c", join_on="$1")]}, a=["/1", "/2"], b=["/1"], c=["/1", "/2"])
    assert found == ["a:/1 c:/1", "b:/1 c:/1", "a:/2 c:/2"]


def test_cross_of_a_join_keeps_pairs_together() -> None:
    join = {"join": [pfs("a", join_on="$1"), pfs("b", join_on="$1")]}
    assert plan({"cross": [join, pfs("c")]}, a=A, b=["/2"], c=["/p", "/q"]) == [
        "a:/2 b:/2 c:/p",
        "a:/2 b:/2 c:/q",
    ]


def test_siblings_of_a_union_may_share_a_name() -> None:
    assert plan({"union": [pfs("x", repo="a"), pfs("x", repo="b")]}, a=["/1"], b=["/1"]) == ["x:/1", "x:/1"]


def test_a_group_counts_a_file_once_that_two_siblings_match() -> None:
    node = {"group": [{"union": [pfs("x", repo="a", group_by="k"), pfs("x", "/1*", repo="a", group_by="k")]}]}
    assert plan(node, a=["/1", "/2"]) == ["x:/1 x:/2"]


def test_two_repos_at_one_place_in_a_datum_are_refused() -> None:
    node = {"group": [{"union": [pfs("x", repo="a", group_by="k"), pfs("x", repo="b", group_by="k")]}]}
    assert plan(node, a=["/1"], b=["/2"]) == ["x:/1 x:/2"]
    with pytest.raises(InvalidInput, match=r"two files at /pfs/x/1, of default/a@main and default/b@main; give"):
        plan(node, a=["/1"], b=["/1"])


def test_a_product_beyond_the_limit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "DATUMS_MAX", 8)
    node = {"cross": [pfs("a"), pfs("b")]}
    with pytest.raises(LimitExceeded, match=r"the cross of a, b makes 9 datums; at most 8"):
        plan(node, a=A, b=B)
    joined = {"join": [pfs("a", join_on="k"), pfs("b", join_on="k")]}
    with pytest.raises(LimitExceeded, match=r"the join of a, b makes 9 datums"):
        plan(joined, a=A, b=B)


def test_the_order_of_inputs_in_the_spec_does_not_matter() -> None:
    trees = {"a": A, "b": B}
    assert plan({"cross": [pfs("b"), pfs("a")]}, **trees) == plan({"cross": [pfs("a"), pfs("b")]}, **trees)


def test_preview_counts_and_warns() -> None:
    node = input_of({"join": [pfs("a", join_on="$1"), pfs("b", "/x(*)", join_on="$1")]})
    preview = preview_datums(node, matches_of(node, {"a": A, "b": ["/x7", "/y"]}))
    assert (preview.datums, preview.matches) == (0, (3, 1))
    assert preview.warnings == ("the join of a, b has no datum: no key is in all inputs (first keys: '1', '7')",)
    empty = preview_datums(node, matches_of(node, {"a": A, "b": []}))
    assert empty.warnings == ("input 'b': /x(*) matches nothing in default/b@main",)
    fine = preview_datums(node, matches_of(node, {"a": A, "b": ["/x1"]}))
    assert (fine.datums, fine.warnings) == (1, ())
