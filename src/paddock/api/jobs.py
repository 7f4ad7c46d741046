"""`/jobs` and `/pipelines/{project}/{pipeline}/jobs`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from paddock.api import streams
from paddock.api.dependencies import Limit, Services, address, answers
from paddock.model.records import Job
from paddock.model.timing import JobTiming

WAIT_SECONDS_MAX = 60.0

router = APIRouter(prefix="/jobs", tags=["jobs"])
pipeline_router = APIRouter(prefix="/pipelines/{project}/{pipeline}/jobs", tags=["jobs"])

_NDJSON = answers(streams.NDJSON_MEDIA_TYPE)


class Wait(BaseModel):
    jobs: list[str]
    """`[project/]pipeline@id`."""
    timeout_seconds: Annotated[float, Field(ge=0, le=WAIT_SECONDS_MAX)] = 10.0


class Reason(BaseModel):
    reason: str = "stopped by the user"


@router.get("", summary="List jobs, newest first")
def list_jobs(services: Services, pipeline: str | None = None, limit: Limit = None) -> Sequence[Job]:
    return services.jobs.list(pipeline=pipeline, limit=limit)


@router.post("/wait", summary="Wait a while for jobs to end; ask again while they have not")
def wait_for_jobs(services: Services, body: Wait) -> Sequence[Job]:
    return services.jobs.wait(body.jobs, timeout_seconds=body.timeout_seconds)


@pipeline_router.get("/{job}", summary="Inspect a job")
def inspect_job(services: Services, project: str, pipeline: str, job: str) -> Job:
    return services.jobs.inspect(address(project, pipeline, job))


@pipeline_router.get("/{job}/timing", summary="Where a job's time went, and what more workers would bring")
def job_timing(services: Services, project: str, pipeline: str, job: str) -> JobTiming:
    return services.jobs.timing(address(project, pipeline, job))


@pipeline_router.post("/{job}/stop", summary="Stop a job")
def stop_job(services: Services, project: str, pipeline: str, job: str, body: Reason) -> Job:
    return services.jobs.stop(address(project, pipeline, job), reason=body.reason)


@pipeline_router.get(
    "/{job}/logs/follow",
    summary="Lines (base64) as datums print them, until the job has ended; an empty record now and then",
    responses=_NDJSON,
    response_model=None,
)
def follow_job_logs(
    services: Services, project: str, pipeline: str, job: str, datum: str | None = None
) -> StreamingResponse:
    lines = services.jobs.follow(address(project, pipeline, job), datum=datum)
    return streams.ndjson(({"datum": name, "log": base64.b64encode(log).decode()} for name, log in lines), batch_rows=1)


@pipeline_router.get(
    "/{job}/logs",
    summary="Logs of the datums that a job ran (base64)",
    responses=_NDJSON,
    response_model=None,
)
def job_logs(services: Services, project: str, pipeline: str, job: str, datum: str | None = None) -> StreamingResponse:
    logs = services.jobs.logs(address(project, pipeline, job), datum=datum)
    return streams.ndjson({"datum": name, "log": base64.b64encode(log).decode()} for name, log in logs)
