"""Tags: names for commits that never move. Implements `model.services.Tags`."""

from __future__ import annotations

import builtins

from paddock.catalog import branches, tags
from paddock.catalog.tags import TagRow
from paddock.model.addresses import Address, check_name, parse_address, parse_repo
from paddock.model.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from paddock.model.ids import CommitId, is_commit_id
from paddock.model.records import CommitState, Tag
from paddock.versions.home import Home
from paddock.versions.records import time_of
from paddock.versions.resolve import nearest, require_repo, resolve_commit


class TagService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def create(self, tag: str, commit: str, *, description: str = "") -> Tag:
        address = _tag_address(tag)
        name = check_name("tag", address.ref.name)
        if is_commit_id(name):
            raise InvalidInput(f"tag name {name!r} looks like a commit id; choose another name")
        source = parse_address(commit if "@" in commit else f"{address.repo}@{commit}")
        if source.repo != address.repo:
            raise InvalidInput(f"commit {commit!r} is not in repo {address.repo}; a tag and its commit are in one repo")
        with self._home.catalog.write() as tx:
            repo = require_repo(tx, address.repo)
            found = resolve_commit(tx, source)
            if found.state != CommitState.FINISHED:
                raise Conflict(f"commit {found} is {found.state}; only a good finished commit can be tagged")
            old = tags.find(tx, repo.id, name)
            if old is not None:
                raise AlreadyExists(f"tag {old} exists already, for commit {old.set_id}; tags never move")
            if branches.find(tx, repo.id, name) is not None:
                raise AlreadyExists(f"tag {repo}@{name} can't be made: a branch has that name; choose another")
            tags.insert(tx, repo.id, name, found.id, description=description, created=self._home.now())
            made = tags.find(tx, repo.id, name)
            assert made is not None, "the tag was just made"
            return _record(made)

    def list(self, repo: str) -> builtins.list[Tag]:
        address = parse_repo(repo)
        with self._home.catalog.read() as tx:
            return [_record(row) for row in tags.of_repo(tx, require_repo(tx, address).id)]

    def inspect(self, tag: str) -> Tag:
        address = _tag_address(tag)
        with self._home.catalog.read() as tx:
            repo = require_repo(tx, address.repo)
            row = tags.find(tx, repo.id, address.ref.name)
            if row is None:
                raise _missing(address, [found.name for found in tags.of_repo(tx, repo.id)])
            return _record(row)

    def delete(self, tag: str) -> None:
        address = _tag_address(tag)
        with self._home.catalog.write() as tx:
            repo = require_repo(tx, address.repo)
            row = tags.find(tx, repo.id, address.ref.name)
            if row is None:
                raise _missing(address, [found.name for found in tags.of_repo(tx, repo.id)])
            tags.delete(tx, row.id)


def _tag_address(text: str) -> Address:
    address = parse_address(text, default_ref=None)
    if address.path is not None or address.ref.steps:
        raise InvalidInput(f"{text!r} is not a tag; write [project/]repo@name")
    return address


def _missing(address: Address, present: builtins.list[str]) -> NotFound:
    known = f"it has {', '.join(present)}" if present else "it has none"
    hint = nearest(address.ref.name, present)
    return NotFound(f"repo {address.repo} has no tag {address.ref.name}{hint}; {known}")


def _record(row: TagRow) -> Tag:
    return Tag(row.project, row.repo, row.name, CommitId(row.set_id), row.description, time_of(row.created))
