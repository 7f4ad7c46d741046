"""A collection that goes on from what was remembered comes to what one that reads everything comes to."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from paddock.catalog import garbage as garbage_sql
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Conflict, NotFound
from paddock.runtime.fsck import check_store
from paddock.runtime.garbage import collect_garbage
from paddock.runtime.marking import Marking
from paddock.runtime.pack_census import pack_use
from paddock.runtime.remembered_marks import mark, remember
from paddock.storage.digest_counts import DigestCounts
from paddock.storage.tables import Tables
from paddock.storage.trees import Trees

REPOS = strategies.sampled_from(["a", "b"])
NUMBERS = strategies.integers(0, 11)


class Collections(RuleBasedStateMachine):
    """Puts, deletions and collections in any order, in segments of two rows; some contents are shared, some are large."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.paddock = EmbeddedPaddock.open(self.directory / "home")
        self.paddock.home.trees = Trees(Tables(self.paddock.home.chunks, boundary_bits=1))

    def teardown(self) -> None:
        assert check_store(self.paddock.home, data=True).sound
        self.paddock.close()
        shutil.rmtree(self.directory)

    @initialize()
    def begin(self) -> None:
        for repo in ("a", "b"):
            self.paddock.repos.create(repo)
            self.put_many(repo, 0)

    @rule(repo=REPOS, first=NUMBERS)
    def put_many(self, repo: str, first: int) -> None:
        source = self.directory / "source"
        source.mkdir()
        for number in range(first, first + 4):
            (source / str(number)).write_bytes(bytes([number % 7]) * (number % 7) * 1000)
        self.paddock.files.put_tree(f"{repo}@main", source)
        shutil.rmtree(source)

    @rule(repo=REPOS, number=NUMBERS, content=NUMBERS)
    def put(self, repo: str, number: int, content: int) -> None:
        self.paddock.files.put(f"{repo}@main:/{number}", b"content of %d" % content)

    @rule(repo=REPOS, number=NUMBERS)
    def delete(self, repo: str, number: int) -> None:
        try:
            self.paddock.files.delete(f"{repo}@main:/{number}")
        except NotFound:
            pass

    @rule(repo=REPOS)
    def drop(self, repo: str) -> None:
        try:
            self.paddock.commits.drop(f"{repo}@main")
        except (Conflict, NotFound):
            pass

    @rule(repo=REPOS)
    def squash(self, repo: str) -> None:
        try:
            self.paddock.commits.squash(f"{repo}@main^")
        except (Conflict, NotFound):
            pass

    @rule(repo=REPOS)
    def start_over(self, repo: str) -> None:
        self.paddock.repos.delete(repo)
        self.paddock.repos.create(repo)

    @rule(dry_run=strategies.booleans(), held=strategies.booleans())
    def collect(self, dry_run: bool, held: bool) -> None:
        pin = self.paddock.home.pin() if held else None
        collect_garbage(self.paddock.home, grace_seconds=0, wait_seconds=0, dry_run=dry_run)
        if pin is not None:
            pin.release()

    @rule()
    def remember(self) -> None:
        """Without a collection: what is remembered then may be of any moment."""
        home = self.paddock.home
        with home.catalog.read() as tx:
            roots, packs = garbage_sql.roots(tx), garbage_sql.packs(tx)
        marking, use = mark(home, roots, packs)
        remember(home, marking, {pack.name: use[pack.id] for pack in packs if not pack.condemned})

    @invariant()
    def warm_is_cold(self) -> None:
        home = self.paddock.home
        with home.catalog.read() as tx:
            roots, packs = garbage_sql.roots(tx), garbage_sql.packs(tx)
        warm, warm_use = mark(home, roots, packs)
        cold = Marking(home)
        cold.add(roots)
        assert (warm.roots, warm.tables) == (cold.roots, cold.tables)
        assert warm.live.values().tolist() == cold.live.values().tolist()
        assert warm.live.base.counts.tolist() == cold.live.base.counts.tolist()
        assert warm_use == pack_use(home, cold.live, packs)


TestCollections = Collections.TestCase
TestCollections.settings = settings(max_examples=12, stateful_step_count=15)


@given(strategies.lists(strategies.tuples(strategies.sets(strategies.integers(0, 30)), strategies.booleans())))
def test_counts_are_sums_of_steps(steps: list[tuple[set[int], bool]]) -> None:
    counts = DigestCounts()
    model = dict.fromkeys(range(31), 0)
    for some, more in steps:
        step = 1 if more else -1
        chosen = sorted(each for each in some if more or model[each] > 0)
        counts.add(np.array(chosen, dtype=np.uint64), step)
        for each in chosen:
            model[each] += step
        if len(some) % 3 == 0:
            counts.levels()  # settles
    everything = np.arange(31, dtype=np.uint64)
    assert counts.of(everything).tolist() == list(model.values())
    assert counts.values().tolist() == [each for each, count in model.items() if count]
    assert counts.of(everything).tolist() == list(model.values())
