"""`/transfers`: chunks by digest, for clients that can't reach the object store (docs/design/014-transfers.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from paddock.api.bodies import UploadSlot, body_file, drained
from paddock.api.dependencies import Services, answers
from paddock.api.problems import problem_document
from paddock.api.streams import begun
from paddock.model.errors import InvalidInput, LimitExceeded, PaddockError
from paddock.model.ids import Digest
from paddock.model.records import PutReport
from paddock.model.store_records import Transfer
from paddock.storage.chunk_frames import FRAMES_MEDIA_TYPE, digests_in, frames_of, problem_frame

DIGESTS_MAX = 1 << 16

router = APIRouter(prefix="/transfers", tags=["transfers"])

_DIGESTS = {"requestBody": {"content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}
_FRAMES = {"requestBody": {"content": {FRAMES_MEDIA_TYPE: {"schema": {"format": "binary"}}}}}


class Begin(BaseModel):
    target: str | None = None
    """`[project/]repo@branch[:/path]`: refused now where it can't be written."""


class Sent(BaseModel):
    stored_bytes: int


class Tree(BaseModel):
    root: str
    """Digest in hexadecimal."""


@router.post("", summary="Begin a transfer", status_code=201)
def begin_transfer(services: Services, body: Begin) -> Transfer:
    return services.transfers.begin(body.target)


@router.post(
    "/{transfer}/missing",
    summary="Which chunks have to be sent",
    openapi_extra=_DIGESTS,
    responses=answers("application/octet-stream"),
    response_model=None,
)
def missing_chunks(services: Services, request: Request, transfer: str) -> Response:
    """The body: digests, 32 bytes each. The answer: a byte for each, 1 where it has to be sent."""
    flags = services.transfers.missing(transfer, _digests(request))
    return Response(bytes(flags), media_type="application/octet-stream")


@router.post("/{transfer}/chunks", summary="Send chunks", openapi_extra=_FRAMES)
def send_chunks(services: Services, request: Request, slot: UploadSlot, transfer: str) -> Sent:
    with drained(request) as body:
        return Sent(stored_bytes=services.transfers.send(transfer, body))


@router.post(
    "/{transfer}/fetch",
    summary="Fetch chunks",
    openapi_extra=_DIGESTS,
    responses=answers(FRAMES_MEDIA_TYPE),
    response_model=None,
)
def fetch_chunks(services: Services, request: Request, transfer: str) -> StreamingResponse:
    """The body: digests, 32 bytes each. The answer: a frame for each; where one can't be read, a problem ends it."""
    digests = _digests(request)
    return StreamingResponse(
        begun(_frames(digests, services.transfers.fetch(transfer, digests))), media_type=FRAMES_MEDIA_TYPE
    )


def _frames(digests: Sequence[Digest], chunks: Iterator[bytes]) -> Iterator[bytes]:
    sent = False
    try:
        for piece in frames_of(zip(digests, chunks, strict=True)):
            yield piece
            sent = True
    except PaddockError as error:
        if not sent:
            raise
        yield problem_frame(json.dumps(problem_document(error)).encode())


@router.get("/{transfer}/tree", summary="The root of a commit's file table")
def read_tree(services: Services, transfer: str, source: str) -> Tree:
    return Tree(root=services.transfers.tree(transfer, source).hex())


@router.put("/{transfer}/files", summary="Put a table of files", openapi_extra=_DIGESTS)
def put_files(
    services: Services,
    request: Request,
    slot: UploadSlot,
    transfer: str,
    target: Annotated[str, Query(description="`[project/]repo@branch[:/path]`")],
    append: bool = False,
    mirror: bool = False,
) -> PutReport:
    with drained(request) as body:
        return services.transfers.put(transfer, target, body, append=append, mirror=mirror)


@router.delete("/{transfer}", summary="End a transfer", status_code=204)
def end_transfer(services: Services, transfer: str) -> None:
    services.transfers.end(transfer)


def _digests(request: Request) -> list[Digest]:
    data = body_file(request).read(DIGESTS_MAX * 32 + 1)
    if len(data) > DIGESTS_MAX * 32:
        raise LimitExceeded(f"one request names more than {DIGESTS_MAX} chunks; ask in several")
    digests = digests_in(data)
    if not digests:
        raise InvalidInput("the body names no chunk; send digests of 32 bytes each")
    return digests
