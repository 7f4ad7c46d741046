"""What routers are given: the services, and the place for uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import Depends, Query, Request

from paddock.model.services import Paddock


def _services(request: Request) -> Paddock:
    return cast(Paddock, request.app.state.paddock)


def _spool(request: Request) -> Path | None:
    return cast("Path | None", request.app.state.spool)


Services = Annotated[Paddock, Depends(_services)]
Spool = Annotated["Path | None", Depends(_spool)]
FilePath = Annotated["str | None", Query(alias="path", description="Path; the root where left out")]
Limit = Annotated["int | None", Query(ge=1, description="At most so many")]


def answers(media_type: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of an answer that is a stream rather than a record."""
    return {200: {"content": {media_type: {}}}}


def address(project: str, repo: str, ref: str, path: str | None = None) -> str:
    """The address text that services take."""
    head = f"{project}/{repo}@{ref}"
    return head if path is None else f"{head}:{path}"
