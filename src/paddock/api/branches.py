"""`/repos/{project}/{repo}/branches`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from paddock.api.dependencies import Services, address
from paddock.model.records import Branch, Commit

router = APIRouter(prefix="/repos/{project}/{repo}/branches", tags=["branches"])


class WantedBranch(BaseModel):
    head: str | None = None
    provenance: list[str] = []


class NewCommit(BaseModel):
    description: str = ""
    commit_set: str | None = None
    detached: bool = False


@router.get("", summary="List the branches of a repo")
def list_branches(services: Services, project: str, repo: str) -> Sequence[Branch]:
    return services.branches.list(f"{project}/{repo}")


@router.put("/{branch}", summary="Create a branch, or move it")
def create_branch(services: Services, project: str, repo: str, branch: str, body: WantedBranch) -> Branch:
    target = address(project, repo, branch)
    return services.branches.create(target, head=body.head, provenance=body.provenance)


@router.get("/{branch}", summary="Inspect a branch")
def inspect_branch(services: Services, project: str, repo: str, branch: str) -> Branch:
    return services.branches.inspect(address(project, repo, branch))


@router.delete("/{branch}", summary="Delete a branch; its commits survive", status_code=204)
def delete_branch(services: Services, project: str, repo: str, branch: str) -> None:
    services.branches.delete(address(project, repo, branch))


@router.post("/{branch}/commits", summary="Start an open commit", status_code=201)
def start_commit(services: Services, project: str, repo: str, branch: str, body: NewCommit) -> Commit:
    target = address(project, repo, branch)
    return services.commits.start(
        target, description=body.description, commit_set=body.commit_set, detached=body.detached
    )
