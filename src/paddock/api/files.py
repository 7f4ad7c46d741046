"""Files of a commit: `/repos/{project}/{repo}/commits/{ref}/…`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from paddock.api import streams
from paddock.api.bodies import UploadSlot, drained
from paddock.api.dependencies import FilePath, Limit, Services, address, answers
from paddock.model.archives import ARCHIVE_FORMATS
from paddock.model.records import Commit, FileDiff, FileInfo, Origin, PutReport

router = APIRouter(prefix="/repos/{project}/{repo}/commits/{ref}", tags=["files"])

_NDJSON = answers(streams.NDJSON_MEDIA_TYPE)
_RAW = answers("application/octet-stream")
_TAR: dict[int | str, dict[str, Any]] = {200: {"content": {each: {} for each in ARCHIVE_FORMATS.values()}}}
_RAW_BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}
_TAR_BODY = {"requestBody": {"content": {each: {"schema": {"format": "binary"}} for each in ARCHIVE_FORMATS.values()}}}


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
    slot: UploadSlot,
    project: str,
    repo: str,
    ref: str,
    path: FilePath = None,
    append: bool = False,
) -> PutReport:
    with drained(request) as body:
        return services.files.put(address(project, repo, ref, path), body, append=append)


@router.get("/archive", summary="A file or tree as an archive", responses=_TAR, response_model=None)
def read_archive(
    services: Services,
    project: str,
    repo: str,
    ref: str,
    path: FilePath = None,
    format: Annotated[str, Query(description="tar, tar.gz, tar.zst or zip")] = "tar",
) -> StreamingResponse:
    pieces = services.files.get_archive(address(project, repo, ref, path), format=format)
    return streams.raw(pieces, media_type=ARCHIVE_FORMATS[format])


@router.put("/archive", summary="Write the files of an archive", openapi_extra=_TAR_BODY)
def write_archive(
    services: Services,
    request: Request,
    slot: UploadSlot,
    project: str,
    repo: str,
    ref: str,
    path: FilePath = None,
    append: bool = False,
    mirror: Annotated[bool, Query(description="Also remove what the archive does not have")] = False,
) -> PutReport:
    """Of tar (plain, gzip, bzip2, xz, zstd) or zip, as its first bytes tell; its names go below the path."""
    target = address(project, repo, ref, path)
    with drained(request) as body:
        return services.files.put_archive(target, body, append=append, mirror=mirror)


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
