"""`/pipelines/{project}/{pipeline}/jobs/{job}/datums`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from paddock.api import streams
from paddock.api.dependencies import Limit, Services, address, answers
from paddock.api.pipelines import ShownMax, read_spec
from paddock.model.plans import DatumExplanation, InputPreview
from paddock.model.records import Datum, DatumState

preview_router = APIRouter(prefix="/datums", tags=["datums"])
router = APIRouter(prefix="/pipelines/{project}/{pipeline}/jobs/{job}/datums", tags=["datums"])

_BODY = {
    "requestBody": {
        "content": {
            "application/json": {"schema": {"type": "object", "description": "A pipeline spec, or only its input"}}
        }
    }
}
_NDJSON = answers(streams.NDJSON_MEDIA_TYPE)
_TEXT = answers("text/plain")


@router.get("", summary="List the datums of a job", responses=_NDJSON, response_model=None)
def list_datums(
    services: Services,
    project: str,
    pipeline: str,
    job: str,
    state: Annotated[list[DatumState], Query()] = [],  # noqa: B006  (FastAPI copies it)
    limit: Limit = None,
) -> StreamingResponse:
    return streams.ndjson(services.datums.list(address(project, pipeline, job), states=state, limit=limit))


@router.get("/{datum}", summary="Inspect a datum, by id or a unique start of it")
def inspect_datum(services: Services, project: str, pipeline: str, job: str, datum: str) -> Datum:
    return services.datums.inspect(address(project, pipeline, job), datum)


@router.get("/{datum}/logs", summary="What a datum's command printed", responses=_TEXT, response_model=None)
def datum_logs(services: Services, project: str, pipeline: str, job: str, datum: str) -> Response:
    return Response(services.datums.logs(address(project, pipeline, job), datum), media_type="text/plain")


@router.get("/{datum}/explain", summary="Why a datum ran, or did not need to")
def explain_datum(services: Services, project: str, pipeline: str, job: str, datum: str) -> DatumExplanation:
    return services.datums.explain(address(project, pipeline, job), datum)


@preview_router.post("/preview", summary="The datums that an input makes", openapi_extra=_BODY)
def preview_datums(services: Services, request: Request, limit: ShownMax = 20) -> InputPreview:
    return services.datums.preview(read_spec(request), limit=limit)
