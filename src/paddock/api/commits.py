"""`/repos/{project}/{repo}/commits` and `/commit-sets`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from paddock.api.dependencies import Limit, Services, address
from paddock.model.records import Commit, CommitSet

WAIT_SECONDS_MAX = 60.0

router = APIRouter(prefix="/repos/{project}/{repo}/commits", tags=["commits"])
sets_router = APIRouter(prefix="/commit-sets", tags=["commits"])


class FinishedCommit(BaseModel):
    description: str | None = None


@router.get("", summary="List commits, newest first")
def list_commits(
    services: Services, project: str, repo: str, ref: str | None = None, limit: Limit = None
) -> Sequence[Commit]:
    target = f"{project}/{repo}" if ref is None else address(project, repo, ref)
    return services.commits.list(target, limit=limit)


@router.get("/{ref}", summary="Inspect a commit, waiting for it to finish if asked")
def inspect_commit(
    services: Services,
    project: str,
    repo: str,
    ref: str,
    wait_seconds: Annotated[float, Query(ge=0, le=WAIT_SECONDS_MAX)] = 0,
) -> Commit:
    return services.commits.inspect(address(project, repo, ref), wait_seconds=wait_seconds)


@router.post("/{ref}/finish", summary="Finish an open commit")
def finish_commit(services: Services, project: str, repo: str, ref: str, body: FinishedCommit) -> Commit:
    return services.commits.finish(address(project, repo, ref), description=body.description)


@router.delete("/{ref}", summary="Abandon an open commit", status_code=204)
def abandon_commit(services: Services, project: str, repo: str, ref: str) -> None:
    services.commits.abandon(address(project, repo, ref))


@router.post("/{ref}/squash", summary="Take a commit out of history")
def squash_commit(services: Services, project: str, repo: str, ref: str, recursive: bool = False) -> Sequence[Commit]:
    return services.commits.squash(address(project, repo, ref), recursive=recursive)


@router.post("/{ref}/drop", summary="Remove the newest commit of a branch")
def drop_commit(services: Services, project: str, repo: str, ref: str, recursive: bool = False) -> Sequence[Commit]:
    return services.commits.drop(address(project, repo, ref), recursive=recursive)


@router.post("/{ref}/forget", summary="Give up the files of an output commit")
def forget_commit(services: Services, project: str, repo: str, ref: str) -> Sequence[Commit]:
    return services.commits.forget(address(project, repo, ref))


@sets_router.get("", summary="List commit sets, newest first")
def list_sets(services: Services, limit: Limit = None) -> Sequence[CommitSet]:
    return services.commits.list_sets(limit=limit)


@sets_router.post("/{commit_set}/finish", summary="Finish all open commits of a set at once")
def finish_set(services: Services, commit_set: str) -> Sequence[Commit]:
    return services.commits.finish_set(commit_set)


@sets_router.post("/{commit_set}/squash", summary="Take a commit set out of history")
def squash_set(services: Services, commit_set: str, recursive: bool = False) -> Sequence[Commit]:
    return services.commits.squash(commit_set, recursive=recursive)


@sets_router.post("/{commit_set}/drop", summary="Remove a commit set that is the newest on its branches")
def drop_set(services: Services, commit_set: str, recursive: bool = False) -> Sequence[Commit]:
    return services.commits.drop(commit_set, recursive=recursive)


@sets_router.post("/{commit_set}/forget", summary="Give up the files of a set's output commits")
def forget_set(services: Services, commit_set: str) -> Sequence[Commit]:
    return services.commits.forget(commit_set)


@sets_router.get("/{commit_set}", summary="Inspect a commit set")
def inspect_set(services: Services, commit_set: str) -> CommitSet:
    return services.commits.inspect_set(commit_set)
