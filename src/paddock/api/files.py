"""Files of a commit: `/repos/{project}/{repo}/commits/{ref}/…`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from paddock.api import streams
from paddock.api.bodies import body_file, uploaded_tree
from paddock.api.dependencies import FilePath, Limit, Services, Spool, address, answers
from paddock.model.addresses import check_path
from paddock.model.archives import ARCHIVE_MEDIA_TYPE
from paddock.model.errors import InvalidInput
from paddock.model.records import Commit, FileDiff, FileInfo, Origin, PutReport

router = APIRouter(prefix="/repos/{project}/{repo}/commits/{ref}", tags=["files"])

_NDJSON = answers(streams.NDJSON_MEDIA_TYPE)
_RAW = answers("application/octet-stream")
_TAR = answers(ARCHIVE_MEDIA_TYPE)
_RAW_BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}
_TAR_BODY = {"requestBody": {"content": {ARCHIVE_MEDIA_TYPE: {"schema": {"format": "binary"}}}}}


class CopySource(BaseModel):
    source: str
    """`[project/]repo@ref:/path`."""


@router.get("/files", summary="List children, or all files below", responses=_NDJSON, response_model=None)
def list_files(
    services: Services, project: str, repo: str, ref: str, path: FilePath = None, recursive: bool = False
) -> StreamingResponse:
    return streams.ndjson(services.files.list(address(project, repo, ref, path), recursive=recursive))


@router.get("/glob", summary="Files and directories that match", responses=_NDJSON, response_model=None)
def glob_files(services: Services, project: str, repo: str, ref: str, pattern: str) -> StreamingResponse:
    return streams.ndjson(services.files.glob(address(project, repo, ref, pattern)))


@router.get("/file", summary="Inspect a file or directory")
def inspect_file(services: Services, project: str, repo: str, ref: str, path: FilePath = None) -> FileInfo:
    return services.files.inspect(address(project, repo, ref, path))


@router.delete("/files", summary="Remove a file or directory")
def delete_files(
    services: Services, project: str, repo: str, ref: str, path: FilePath = None, recursive: bool = False
) -> PutReport:
    return services.files.delete(address(project, repo, ref, path), recursive=recursive)


@router.get("/content", summary="The bytes of a file", responses=_RAW, response_model=None)
def read_file(
    services: Services,
    project: str,
    repo: str,
    ref: str,
    path: FilePath = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    length: Annotated[int | None, Query(ge=0)] = None,
) -> StreamingResponse:
    """The `ETag` is the file's digest: who reads on after a break sees whether it is still the same file."""
    source = address(project, repo, ref, path)
    tag = {"ETag": f'"{services.files.inspect(source).digest}"'}
    return streams.raw(services.files.read(source, offset=offset, length=length), headers=tag)


@router.put("/content", summary="Write one file from the raw body", openapi_extra=_RAW_BODY)
def write_file(
    services: Services,
    request: Request,
    project: str,
    repo: str,
    ref: str,
    path: FilePath = None,
    append: bool = False,
) -> PutReport:
    return services.files.put(address(project, repo, ref, path), body_file(request), append=append)


@router.get("/archive", summary="A file or tree as a tar stream", responses=_TAR, response_model=None)
def read_archive(services: Services, project: str, repo: str, ref: str, path: FilePath = None) -> StreamingResponse:
    return streams.archive(services, address(project, repo, ref), path)


@router.put("/archive", summary="Write a file or tree from a tar stream", openapi_extra=_TAR_BODY)
def write_archive(
    services: Services,
    spool: Spool,
    request: Request,
    project: str,
    repo: str,
    ref: str,
    name: Annotated[str, Query(description="Top name of all entries; of a single file, its name")],
    path: FilePath = None,
    folder: Annotated[bool, Query(description="The source is a folder: its content goes below the path")] = True,
    append: bool = False,
    mirror: Annotated[bool, Query(description="Also remove what the stream does not have")] = False,
) -> PutReport:
    top = check_path(name).lstrip("/")
    if not top or "/" in top:
        raise InvalidInput(f"name {name!r} is not one path part; give the top name of the tar entries")
    with uploaded_tree(request, spool) as root:
        source = root / top
        if folder:
            source.mkdir(exist_ok=True)
        elif not source.is_file():
            raise InvalidInput(f"the tar stream has no file {top!r}; send it, or set folder=true")
        target = address(project, repo, ref, path)
        return services.files.put_tree(target, source, append=append, mirror=mirror)


@router.post("/copy", summary="Copy a file or directory by reference")
def copy_files(
    services: Services,
    project: str,
    repo: str,
    ref: str,
    body: CopySource,
    path: FilePath = None,
    append: bool = False,
) -> PutReport:
    return services.files.copy(body.source, address(project, repo, ref, path), append=append)


@router.get("/diff", summary="Files that differ from another commit", responses=_NDJSON, response_model=None)
def diff_files(
    services: Services, project: str, repo: str, ref: str, path: FilePath = None, old: str | None = None
) -> StreamingResponse:
    return streams.ndjson(services.files.diff(address(project, repo, ref, path), old))


@router.get("/history", summary="Commits that changed a path")
def find_commits(
    services: Services, project: str, repo: str, ref: str, path: FilePath = None, limit: Limit = None
) -> Sequence[tuple[Commit, FileDiff]]:
    return services.files.find(address(project, repo, ref, path), limit=limit)


@router.get("/why", summary="Where a file came from, back to the first commits")
def why(
    services: Services,
    project: str,
    repo: str,
    ref: str,
    path: FilePath = None,
    inputs_max: Annotated[int, Query(ge=0, le=10_000)] = 20,
) -> Origin:
    return services.why(address(project, repo, ref, path), inputs_max=inputs_max)
