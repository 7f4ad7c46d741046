"""Repos: versioned file systems. Implements `model.services.Repos`."""

from __future__ import annotations

import builtins

from paddock.catalog import repos
from paddock.model.addresses import parse_repo
from paddock.model.errors import AlreadyExists
from paddock.model.records import Repo, RepoKind
from paddock.versions.guards import refuse_if_output, refuse_if_read
from paddock.versions.home import Home
from paddock.versions.records import repo_record
from paddock.versions.resolve import require_project, require_repo


class RepoService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def create(self, repo: str, *, description: str = "") -> Repo:
        """NotFound: the project is missing. AlreadyExists: the repo is there; its description stays."""
        address = parse_repo(repo)
        with self._home.catalog.write() as tx:
            project = require_project(tx, address.project)
            if repos.find(tx, address.project, address.repo) is not None:
                raise AlreadyExists(f"repo {address} exists already; use it, or choose another name")
            repos.insert(tx, project.id, address.repo, RepoKind.USER, description, self._home.now())
            return repo_record(require_repo(tx, address), ())

    def list(self, *, project: str | None = None) -> builtins.list[Repo]:
        with self._home.catalog.read() as tx:
            if project is not None:
                require_project(tx, project)
            return [repo_record(row, sizes) for row, sizes in repos.list_with_sizes(tx, project=project)]

    def inspect(self, repo: str) -> Repo:
        address = parse_repo(repo)
        with self._home.catalog.read() as tx:
            row = require_repo(tx, address)
            ((row, sizes),) = repos.list_with_sizes(tx, repo_id=row.id)
            return repo_record(row, sizes)

    def delete(self, repo: str) -> None:
        """Removes the repo with its branches and commits; lineage from elsewhere into it ends there. Open
        commits go too.
        """
        address = parse_repo(repo)
        with self._home.catalog.write() as tx:
            row = require_repo(tx, address)
            refuse_if_output(tx, row)
            refuse_if_read(tx, row)
            repos.delete(tx, row.id)
