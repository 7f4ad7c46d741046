"""`/repos`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from paddock.api.dependencies import Services
from paddock.model.records import Repo

router = APIRouter(prefix="/repos", tags=["repos"])


class NewRepo(BaseModel):
    repo: str
    """`[project/]repo`."""
    description: str = ""


@router.get("", summary="List repos")
def list_repos(services: Services, project: str | None = None) -> Sequence[Repo]:
    return services.repos.list(project=project)


@router.post("", summary="Create a repo", status_code=201)
def create_repo(services: Services, body: NewRepo) -> Repo:
    return services.repos.create(body.repo, description=body.description)


@router.get("/{project}/{repo}", summary="Inspect a repo")
def inspect_repo(services: Services, project: str, repo: str) -> Repo:
    return services.repos.inspect(f"{project}/{repo}")


@router.delete("/{project}/{repo}", summary="Delete a repo that nothing reads", status_code=204)
def delete_repo(services: Services, project: str, repo: str) -> None:
    services.repos.delete(f"{project}/{repo}")
