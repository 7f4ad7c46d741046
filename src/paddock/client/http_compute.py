"""Pipelines, jobs and datums over HTTP."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from paddock.client.archives import ArchiveEntry, pack, scan_folder
from paddock.client.transport import Transport, path_of
from paddock.model.addresses import parse_address, parse_repo
from paddock.model.archives import ARCHIVE_MEDIA_TYPE
from paddock.model.dataclass import dataclass
from paddock.model.ids import CommitId
from paddock.model.plans import DatumExplanation, InputPreview, JobPlan
from paddock.model.records import AppliedPipeline, Datum, DatumState, Job, Pipeline
from paddock.model.timing import JobTiming

WAIT_STEP_SECONDS = 10.0
PROGRESS_STEP_SECONDS = 0.5
UNFINISHED_LIMIT = 10_000

Answer = TypeVar("Answer")
OnProgress = Callable[[Sequence[Job]], None]


def pipeline_path(pipeline: str, *rest: str) -> str:
    address = parse_repo(pipeline)
    return path_of("pipelines", address.project, address.repo, *rest)


def job_path(job: str, *rest: str) -> str:
    address = parse_address(job, default_ref="head")
    return path_of("pipelines", address.repo.project, address.repo.repo, "jobs", str(address.ref), *rest)


@dataclass(frozen=True, slots=True)
class HttpPipelines:
    transport: Transport

    def apply(
        self,
        spec: Mapping[str, Any],
        *,
        code: Path | None = None,
        reprocess: bool = False,
        hold: bool = False,
        keep_results: bool = False,
        audit: float | None = None,
    ) -> AppliedPipeline:
        parameters = {"reprocess": reprocess, "hold": hold, "keep_results": keep_results, "audit": audit}
        return self._send(AppliedPipeline, path_of("pipelines"), spec, code, parameters)

    def plan(
        self,
        spec: Mapping[str, Any],
        *,
        code: Path | None = None,
        reprocess: bool = False,
        limit: int = 100,
        keep_results: bool = False,
    ) -> JobPlan:
        parameters = {"reprocess": reprocess, "limit": limit, "keep_results": keep_results}
        return self._send(JobPlan, path_of("pipelines", "plan"), spec, code, parameters)

    def _send(
        self,
        kind: type[Answer],
        path: str,
        spec: Mapping[str, Any],
        code: Path | None,
        parameters: Mapping[str, Any],
    ) -> Answer:
        """POST a spec: as JSON, or with its code as a tar stream."""
        if code is None:
            plain: Answer = self.transport.request(kind, "POST", path, parameters=parameters, body=dict(spec))
            return plain
        entries = [
            ArchiveEntry("spec.json", data=json.dumps(dict(spec)).encode()),
            *scan_folder(code, prefix=f"code/{code.resolve().name}"),
        ]
        answer: Answer = self.transport.request(
            kind, "POST", path, parameters=parameters, content=pack(entries), content_type=ARCHIVE_MEDIA_TYPE
        )
        return answer

    def list(self, *, project: str | None = None) -> Sequence[Pipeline]:
        result: tuple[Pipeline, ...] = self.transport.request(
            tuple[Pipeline, ...], "GET", path_of("pipelines"), parameters={"project": project}
        )
        return result

    def inspect(self, pipeline: str, *, version: int | None = None) -> Pipeline:
        parameters = {"version": version}
        result: Pipeline = self.transport.request(Pipeline, "GET", pipeline_path(pipeline), parameters=parameters)
        return result

    def delete(self, pipeline: str, *, keep_repo: bool = False) -> None:
        self.transport.request(None, "DELETE", pipeline_path(pipeline), parameters={"keep_repo": keep_repo})

    def start(self, pipeline: str) -> Pipeline:
        result: Pipeline = self.transport.request(Pipeline, "POST", pipeline_path(pipeline, "start"))
        return result

    def stop(self, pipeline: str) -> Pipeline:
        result: Pipeline = self.transport.request(Pipeline, "POST", pipeline_path(pipeline, "stop"))
        return result

    def rerun(self, pipeline: str, *, reprocess: bool = False, audit: float | None = None) -> Job:
        path = pipeline_path(pipeline, "rerun")
        parameters = {"reprocess": reprocess, "audit": audit}
        result: Job = self.transport.request(Job, "POST", path, parameters=parameters)
        return result


@dataclass(frozen=True, slots=True)
class HttpJobs:
    transport: Transport

    def list(self, *, pipeline: str | None = None, limit: int | None = None) -> Sequence[Job]:
        parameters = {"pipeline": pipeline, "limit": limit}
        result: tuple[Job, ...] = self.transport.request(tuple[Job, ...], "GET", path_of("jobs"), parameters=parameters)
        return result

    def inspect(self, job: str) -> Job:
        result: Job = self.transport.request(Job, "GET", job_path(job))
        return result

    def timing(self, job: str) -> JobTiming:
        result: JobTiming = self.transport.request(JobTiming, "GET", job_path(job, "timing"))
        return result

    def wait(
        self,
        jobs: Sequence[str],
        *,
        timeout_seconds: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Sequence[Job]:
        """As the protocol says; asked for in short steps, so a broken connection loses no work, only the wait."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        longest = WAIT_STEP_SECONDS if on_progress is None else PROGRESS_STEP_SECONDS
        while True:
            left = longest if deadline is None else max(0.0, min(longest, deadline - time.monotonic()))
            body = {"jobs": [*jobs], "timeout_seconds": left}
            found: tuple[Job, ...] = self.transport.request(tuple[Job, ...], "POST", path_of("jobs", "wait"), body=body)
            if on_progress is not None:
                on_progress(found)
            ended = deadline is not None and time.monotonic() >= deadline
            if ended or all(job.state.final for job in found):
                return found

    def stop(self, job: str, *, reason: str = "stopped by the user") -> Job:
        result: Job = self.transport.request(Job, "POST", job_path(job, "stop"), body={"reason": reason})
        return result

    def follow(self, job: str, *, datum: str | None = None) -> Iterator[tuple[str, bytes]]:
        lines = self.transport.lines(dict[str, str], job_path(job, "logs", "follow"), parameters={"datum": datum})
        for line in lines:
            yield line["datum"], base64.b64decode(line["log"])

    def logs(self, job: str, *, datum: str | None = None) -> Iterator[tuple[str, bytes]]:
        lines = self.transport.lines(dict[str, str], job_path(job, "logs"), parameters={"datum": datum})
        for line in lines:
            yield line["datum"], base64.b64decode(line["log"])


@dataclass(frozen=True, slots=True)
class HttpDatums:
    transport: Transport

    def list(self, job: str, *, states: Sequence[DatumState] = (), limit: int | None = None) -> Iterator[Datum]:
        parameters = {"state": [state.value for state in states], "limit": limit}
        return self.transport.lines(Datum, job_path(job, "datums"), parameters=parameters)

    def inspect(self, job: str, datum: str) -> Datum:
        result: Datum = self.transport.request(Datum, "GET", job_path(job, "datums", datum))
        return result

    def logs(self, job: str, datum: str) -> bytes:
        return b"".join(self.transport.bytes(job_path(job, "datums", datum, "logs")))

    def explain(self, job: str, datum: str) -> DatumExplanation:
        path = job_path(job, "datums", datum, "explain")
        result: DatumExplanation = self.transport.request(DatumExplanation, "GET", path)
        return result

    def preview(self, spec: Mapping[str, Any], *, limit: int = 20) -> InputPreview:
        path = path_of("datums", "preview")
        result: InputPreview = self.transport.request(
            InputPreview, "POST", path, parameters={"limit": limit}, body=dict(spec)
        )
        return result


def process_all(jobs: HttpJobs, named: Sequence[tuple[str, CommitId]], on_progress: OnProgress | None) -> Sequence[Job]:
    """Wait until the server has no unfinished job (or the named ones are final); the jobs that ended meanwhile."""
    if named:
        return jobs.wait([f"{pipeline}@{job}" for pipeline, job in named], on_progress=on_progress)
    ended: dict[str, Job] = {}
    while True:
        waiting = [_address(job) for job in jobs.list(limit=UNFINISHED_LIMIT) if not job.state.final]
        if not waiting:
            return tuple(ended.values())
        for job in jobs.wait(waiting, on_progress=on_progress):
            ended[_address(job)] = job


def _address(job: Job) -> str:
    return f"{job.project}/{job.pipeline}@{job.id}"
