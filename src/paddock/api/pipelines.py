"""`/pipelines`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from paddock.api.bodies import body_file, uploaded_tree
from paddock.api.dependencies import Services, Spool
from paddock.model.archives import ARCHIVE_MEDIA_TYPE
from paddock.model.errors import InvalidInput, LimitExceeded
from paddock.model.plans import JobPlan
from paddock.model.records import AppliedPipeline, Job, Pipeline

SPEC_BYTES_MAX = 16 << 20
Share = Annotated[float | None, Query(ge=0, le=1)]
ShownMax = Annotated[int, Query(ge=0, le=100_000)]

router = APIRouter(prefix="/pipelines", tags=["pipelines"])

_BODY = {
    "requestBody": {
        "content": {
            "application/json": {"schema": {"type": "object", "description": "The pipeline spec"}},
            ARCHIVE_MEDIA_TYPE: {"schema": {"format": "binary", "description": "spec.json, code/…"}},
        }
    }
}


@router.get("", summary="List pipelines")
def list_pipelines(services: Services, project: str | None = None) -> Sequence[Pipeline]:
    return services.pipelines.list(project=project)


@router.post("", summary="Create or update a pipeline from a spec", openapi_extra=_BODY)
def apply_pipeline(
    services: Services,
    spool: Spool,
    request: Request,
    reprocess: bool = False,
    hold: bool = False,
    keep_results: bool = False,
    audit: Share = None,
) -> AppliedPipeline:
    apply = partial(services.pipelines.apply, reprocess=reprocess, hold=hold, keep_results=keep_results, audit=audit)
    if not request.headers.get("content-type", "").startswith(ARCHIVE_MEDIA_TYPE):
        return apply(read_spec(request))
    with uploaded_tree(request, spool) as root:
        return apply(_archived_spec(root), code=_code(root))


@router.post("/plan", summary="What a job would do if a spec were applied, and why", openapi_extra=_BODY)
def plan_pipeline(
    services: Services,
    spool: Spool,
    request: Request,
    reprocess: bool = False,
    limit: ShownMax = 100,
    keep_results: bool = False,
) -> JobPlan:
    plan = partial(services.pipelines.plan, reprocess=reprocess, limit=limit, keep_results=keep_results)
    if not request.headers.get("content-type", "").startswith(ARCHIVE_MEDIA_TYPE):
        return plan(read_spec(request))
    with uploaded_tree(request, spool) as root:
        return plan(_archived_spec(root), code=_code(root))


def read_spec(request: Request) -> Mapping[str, Any]:
    """The JSON object in a request's body."""
    return _spec(body_file(request).read(SPEC_BYTES_MAX + 1))


def _archived_spec(root: Path) -> Mapping[str, Any]:
    text = root / "spec.json"
    if not text.is_file():
        raise InvalidInput("the tar stream has no spec.json; send the spec as its first entry")
    return _spec(text.read_bytes())


def _spec(text: bytes) -> Mapping[str, Any]:
    if len(text) > SPEC_BYTES_MAX:
        raise LimitExceeded(f"the spec is larger than {SPEC_BYTES_MAX} bytes; data belongs in a repo")
    try:
        spec = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the spec is not JSON: {error}") from None
    if not isinstance(spec, dict):
        raise InvalidInput(f"the spec is a JSON {type(spec).__name__}; send one object")
    return spec


def _code(root: Path) -> Path | None:
    folder = root / "code"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if len(found) > 1:
        raise InvalidInput("code/ in the tar stream has more than one entry; send one folder or one file")
    return found[0] if found else None


@router.get("/{project}/{pipeline}", summary="Inspect a pipeline")
def inspect_pipeline(services: Services, project: str, pipeline: str, version: int | None = None) -> Pipeline:
    return services.pipelines.inspect(f"{project}/{pipeline}", version=version)


@router.delete("/{project}/{pipeline}", summary="Delete a pipeline", status_code=204)
def delete_pipeline(services: Services, project: str, pipeline: str, keep_repo: bool = False) -> None:
    services.pipelines.delete(f"{project}/{pipeline}", keep_repo=keep_repo)


@router.post("/{project}/{pipeline}/start", summary="React to commits again")
def start_pipeline(services: Services, project: str, pipeline: str) -> Pipeline:
    return services.pipelines.start(f"{project}/{pipeline}")


@router.post("/{project}/{pipeline}/stop", summary="Stop reacting to commits")
def stop_pipeline(services: Services, project: str, pipeline: str) -> Pipeline:
    return services.pipelines.stop(f"{project}/{pipeline}")


@router.post("/{project}/{pipeline}/rerun", summary="Make a new job on the present heads")
def rerun_pipeline(
    services: Services, project: str, pipeline: str, reprocess: bool = False, audit: Share = None
) -> Job:
    return services.pipelines.rerun(f"{project}/{pipeline}", reprocess=reprocess, audit=audit)
