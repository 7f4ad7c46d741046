"""The HTTP API: the services of `paddock.model.services`, one router per noun, described by OpenAPI."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import anyio
from fastapi import APIRouter, FastAPI

from paddock.api import (
    agents,
    branches,
    cache,
    commits,
    datums,
    files,
    jobs,
    metrics,
    pipelines,
    pools,
    projects,
    repos,
    store,
    tags,
    transfers,
)
from paddock.api.bodies import UPLOADS_MAX
from paddock.api.dependencies import Services
from paddock.api.exchanges import ExchangeDesk, Exchanges
from paddock.api.origin import OriginGuard
from paddock.api.problems import ProblemDocument, add_error_handlers
from paddock.api.worker_tokens import WorkerTokenGuard
from paddock.model.records import DEFAULT_PROJECT
from paddock.model.services import Paddock
from paddock.model.version import VERSION
from paddock.runtime.cluster import Cluster

API_ROOT = "/api/v1"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

_about = APIRouter(tags=["about"])


@_about.get("/version", summary="The server's version")
def version() -> dict[str, str]:
    return {"version": VERSION}


@_about.get("/health", summary="Whether the process answers; it does without its catalog")
async def health() -> dict[str, str]:
    # In the event loop, and not in a thread: busy threads are no reason to start the process anew.
    return {"status": "ok"}


@_about.get("/ready", summary="Whether requests can be served: 503 while the catalog is away")
def ready(services: Services) -> dict[str, str]:
    services.projects.inspect(DEFAULT_PROJECT)
    return {"status": "ready"}


def create_app(
    paddock: Paddock,
    *,
    spool: Path | None = None,
    hosts: Collection[str] | None = LOCAL_HOSTS,
    cluster: Cluster | None = None,
) -> FastAPI:
    """Build the ASGI application over any services (an embedded home; a fake in a test).

    spool: where uploaded trees are kept until they are stored. hosts: names under which the server may be reached; None
    accepts all. cluster: takes workers of other hosts. The application holds no state of its own, and does not close `paddock`.
    """
    app = FastAPI(
        title="Paddock",
        version=VERSION,
        summary="Versioned data, and pipelines that compute only what changed.",
        openapi_url="/openapi.json",
        docs_url="/docs",
        redoc_url=None,
        responses={status: {"model": ProblemDocument} for status in ("4XX", 422, "5XX")},
    )
    app.state.paddock = paddock
    app.state.spool = spool
    app.state.upload_slots = anyio.Semaphore(UPLOADS_MAX)
    app.state.cluster = cluster
    app.state.exchanges = ExchangeDesk(cluster, root=API_ROOT, hosts=hosts)
    routers = (
        _about,
        projects.router,
        repos.router,
        branches.router,
        tags.router,
        pools.router,
        agents.router,
        commits.router,
        commits.sets_router,
        files.router,
        transfers.router,
        pipelines.router,
        jobs.router,
        jobs.pipeline_router,
        datums.router,
        cache.router,
        store.router,
        datums.preview_router,
    )
    for router in routers:
        app.include_router(router, prefix=API_ROOT)
    app.include_router(metrics.router)  # where collectors look for it
    add_error_handlers(app)
    app.add_middleware(
        WorkerTokenGuard, root=API_ROOT
    )  # within the next, whose requests are too many to be looked at twice
    app.add_middleware(Exchanges, desk=app.state.exchanges)
    app.add_middleware(OriginGuard, hosts=hosts)
    return app
