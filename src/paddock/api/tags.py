"""`/repos/{project}/{repo}/tags`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from paddock.api.dependencies import Services, address
from paddock.model.records import Tag

router = APIRouter(prefix="/repos/{project}/{repo}/tags", tags=["tags"])


class NewTag(BaseModel):
    commit: str
    description: str = ""


@router.get("", summary="List the tags of a repo")
def list_tags(services: Services, project: str, repo: str) -> Sequence[Tag]:
    return services.tags.list(f"{project}/{repo}")


@router.post("/{tag}", summary="Name a commit for good", status_code=201)
def create_tag(services: Services, project: str, repo: str, tag: str, body: NewTag) -> Tag:
    return services.tags.create(address(project, repo, tag), body.commit, description=body.description)


@router.get("/{tag}", summary="Inspect a tag")
def inspect_tag(services: Services, project: str, repo: str, tag: str) -> Tag:
    return services.tags.inspect(address(project, repo, tag))


@router.delete("/{tag}", summary="Delete a tag; its commit stays", status_code=204)
def delete_tag(services: Services, project: str, repo: str, tag: str) -> None:
    services.tags.delete(address(project, repo, tag))
