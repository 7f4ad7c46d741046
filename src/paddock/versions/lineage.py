"""Walks over the provenance of commits."""

from __future__ import annotations

from paddock.catalog import commits
from paddock.catalog.commits import CommitRow
from paddock.catalog.database import Transaction
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class InputCommit:
    """One direct input of a computed commit. `commit` is None where the branch had none yet: an empty
    tree.
    """

    project: str
    repo: str
    branch: str
    commit: CommitRow | None


def inputs_of(tx: Transaction, commit_id: int) -> tuple[InputCommit, ...]:
    """The direct inputs, in the order in which the pipeline reads them."""
    return tuple(
        InputCommit(
            edge.project,
            edge.repo,
            edge.branch,
            None if edge.upstream_id is None else commits.get(tx, edge.upstream_id),
        )
        for edge in commits.provenance(tx, [commit_id])
    )


def upstream(tx: Transaction, commit_id: int) -> list[CommitRow]:
    """Every commit that this one was computed from, directly or not; nearest first, each once. One query a
    level.
    """
    found: dict[int, CommitRow] = {}
    level = [commit_id]
    while level:
        ids = {edge.upstream_id for edge in commits.provenance(tx, level)}
        level = [id for id in sorted(id for id in ids if id is not None) if id not in found]
        found |= {id: commits.get(tx, id) for id in level}
    return list(found.values())


def downstream(tx: Transaction, commit_id: int) -> list[CommitRow]:
    """Every commit that was (or is to be) computed from this one, directly or not; nearest first, each
    once.
    """
    found: dict[int, CommitRow] = {}
    pending = [commit_id]
    while pending:
        for reader in commits.computed_from(tx, pending.pop(0)):
            if reader.id not in found:
                found[reader.id] = reader
                pending.append(reader.id)
    return list(found.values())
