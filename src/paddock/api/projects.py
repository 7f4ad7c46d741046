"""`/projects`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from paddock.api.dependencies import Services
from paddock.model.records import Project

router = APIRouter(prefix="/projects", tags=["projects"])


class NewProject(BaseModel):
    name: str
    description: str = ""


@router.get("", summary="List projects")
def list_projects(services: Services) -> Sequence[Project]:
    return services.projects.list()


@router.post("", summary="Create a project", status_code=201)
def create_project(services: Services, body: NewProject) -> Project:
    return services.projects.create(body.name, description=body.description)


@router.get("/{name}", summary="Inspect a project")
def inspect_project(services: Services, name: str) -> Project:
    return services.projects.inspect(name)


@router.delete("/{name}", summary="Delete an empty project", status_code=204)
def delete_project(services: Services, name: str) -> None:
    services.projects.delete(name)
