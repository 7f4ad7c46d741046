"""Projects: namespaces of repos and pipelines. Implements `model.services.Projects`."""

from __future__ import annotations

import builtins

from paddock.catalog import pipelines, projects, repos
from paddock.model.addresses import check_name
from paddock.model.errors import AlreadyExists, Conflict
from paddock.model.records import DEFAULT_PROJECT, Project
from paddock.versions.home import Home
from paddock.versions.records import project_record
from paddock.versions.resolve import require_project


class ProjectService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def create(self, name: str, *, description: str = "") -> Project:
        check_name("project", name)
        with self._home.catalog.write() as tx:
            if projects.find(tx, name) is not None:
                raise AlreadyExists(f"project {name} exists already; use it, or choose another name")
            projects.insert(tx, name, description, self._home.now())
            return project_record(require_project(tx, name))

    def list(self) -> builtins.list[Project]:
        with self._home.catalog.read() as tx:
            return [project_record(row) for row in projects.get_all(tx)]

    def inspect(self, name: str) -> Project:
        with self._home.catalog.read() as tx:
            return project_record(require_project(tx, name))

    def delete(self, name: str) -> None:
        with self._home.catalog.write() as tx:
            row = require_project(tx, name)
            if name == DEFAULT_PROJECT:
                raise Conflict(f"project {name} can't be deleted: addresses without a project mean it")
            held = [f"pipeline {pipeline.name}" for pipeline in pipelines.get_all(tx, project=name)]
            held += [f"repo {repo}" for repo in repos.names(tx, name)]
            if held:
                raise Conflict(f"project {name} still holds {', '.join(held)}; delete them first")
            projects.delete(tx, row.id)
