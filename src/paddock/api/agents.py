"""Agents of workers on other hosts: joining and leaving, and packs for those without a store. What they exchange: `exchanges`."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, Field

from paddock.model.errors import Conflict, InvalidInput, LimitExceeded, PermissionDenied, Unavailable
from paddock.model.ids import PackId
from paddock.model.version import VERSION
from paddock.runtime.capacity import Capacity
from paddock.runtime.cluster import Cluster
from paddock.runtime.engines.network import NetworkEngine
from paddock.runtime.protocol import PROTOCOL_VERSION

OBJECT_MEDIA_TYPE = "application/octet-stream"
OBJECT_BYTES_MAX = 1 << 30
READ_BYTES_MAX = 256 << 20
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_KEY = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{30})")

router = APIRouter(tags=["agents"])


class AgentBody(BaseModel):
    host: str = Field(min_length=1, max_length=200, description="What people call the host")
    cpus: float = Field(gt=0, description="What its workers share, as all that follows")
    memory_bytes: float = Field(gt=0)
    disk_bytes: float = Field(ge=0)
    gpus: tuple[str, ...] = ()
    protocol: int = Field(default=0, description="Version of the worker protocol that it speaks")


class Joined(BaseModel):
    agent: str
    home: str
    chunking: dict[str, int]
    storage: str | None = Field(description="Where the bulk data lies, for workers that reach it; no credentials")
    protocol: int = Field(description="Version of the worker protocol that the server speaks")


class SchedulerPlace(BaseModel):
    url: str | None = Field(description="The server whose process schedules now; none while none does")
    here: bool
    servers: tuple[str, ...] = Field(description="All servers of the home that are known: workers may ask any of them")


def cluster_of(cluster: Cluster | None) -> Cluster:
    if cluster is None:
        raise Unavailable("this server takes no workers; start it with `paddock up`")
    return cluster


def token_of(authorization: str) -> str:
    """The token in a header. PermissionDenied: there is none."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token:
        raise PermissionDenied(
            "workers need a token; make one with `paddock pool token POOL`, and name it with --token-file"
        )
    return token


def engine_of(cluster: Cluster) -> NetworkEngine:
    """Unavailable: another server schedules."""
    engine = cluster.engine
    if engine is None:
        raise Unavailable("this server does not schedule; ask /scheduler which one does")
    return engine


def _cluster(request: Request) -> Cluster:
    return cluster_of(request.app.state.cluster)


def _pool(request: Request, cluster: Annotated[Cluster, Depends(_cluster)]) -> str:
    return cluster.pool_of_token(token_of(request.headers.get("authorization", "")))


InCluster = Annotated[Cluster, Depends(_cluster)]
Pool = Annotated[str, Depends(_pool)]


@router.get("/scheduler", summary="Which server schedules")
def scheduler(cluster: InCluster) -> SchedulerPlace:
    return SchedulerPlace(
        url=cluster.scheduler_url(), here=cluster.engine is not None, servers=tuple(cluster.servers())
    )


@router.post("/agents", summary="Join with workers")
def join(body: AgentBody, cluster: InCluster, pool: Pool) -> Joined:
    if body.protocol != PROTOCOL_VERSION:
        raise Conflict(
            f"the worker on {body.host} speaks version {body.protocol} of the worker protocol, this server version {PROTOCOL_VERSION};"
            f" install Paddock {VERSION} there, and start it again"
        )
    capacity = Capacity(body.cpus, body.memory_bytes, body.disk_bytes, body.gpus)
    agent = engine_of(cluster).join(pool=pool, host=body.host, capacity=capacity)
    return Joined(
        agent=agent,
        home=cluster.home_id,
        chunking=dict(cluster.chunking),
        storage=cluster.storage,
        protocol=PROTOCOL_VERSION,
    )


@router.delete("/agents/{agent}", status_code=204, summary="Leave; unfinished batches go to others")
def leave(agent: str, cluster: InCluster, pool: Pool) -> None:
    engine_of(cluster).leave(agent, "its agent has left", pool=pool)


# ---- objects -----------------------------------------------------------------------------------------------


@router.get(
    "/objects/{key:path}",
    summary="A range of a pack that a batch has given, for workers without a store",
    response_class=Response,
)
def read_object(
    key: str,
    cluster: InCluster,
    pool: Pool,
    range: Annotated[str | None, Header()] = None,
    paddock_permit: Annotated[str | None, Header(description="As it came with the batch")] = None,
) -> Response:
    pack = _pack_of(key)
    found = _RANGE.fullmatch(range or "")
    if found is None:
        raise InvalidInput(f"range {range!r} is not understood; write bytes=FIRST-LAST")
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= READ_BYTES_MAX:
        raise InvalidInput(f"range {range!r} is empty or longer than {READ_BYTES_MAX} bytes; ask for less at once")
    data = cluster.read_for(pool, pack, first, last + 1, permit=paddock_permit)
    return Response(data, status_code=206, media_type=OBJECT_MEDIA_TYPE)


@router.put("/objects/{key:path}", status_code=201, summary="Store a new pack, for workers without a store")
async def write_object(key: str, request: Request, cluster: InCluster, pool: Pool) -> None:
    _pack_of(key)
    expected = int(request.headers.get("content-length", "-1"))
    writer = await asyncio.to_thread(cluster.objects.create, key)
    written = 0
    try:
        async for piece in request.stream():
            written += len(piece)
            if written > OBJECT_BYTES_MAX:
                raise LimitExceeded(f"object {key} is larger than {OBJECT_BYTES_MAX} bytes")
            await asyncio.to_thread(writer.write, piece)
        if written != expected:
            raise InvalidInput(f"object {key}: {written} of {expected} bytes came; send it again")
        await asyncio.to_thread(writer.finish)
    except BaseException:
        await asyncio.to_thread(writer.abort)
        raise


def _pack_of(key: str) -> PackId:
    found = _KEY.fullmatch(key)
    if found is None:
        raise PermissionDenied(f"{key!r} names no object that workers may see; packs are packs/XX/ID")
    return PackId(found[2])
