"""`/cache`: kept results, their limits, giving them up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from paddock.api.dependencies import Services
from paddock.model.cache_records import CachePolicy, CacheReport, EvictionReport

router = APIRouter(prefix="/cache", tags=["cache"])


class Policy(BaseModel):
    bytes_max: Annotated[int | None, Field(ge=0)] = None
    age_seconds_max: Annotated[float | None, Field(ge=0)] = None
    audit_share: Annotated[float, Field(ge=0, le=1)] = 0.0


class Evict(BaseModel):
    bytes_max: Annotated[int | None, Field(ge=0)] = None
    age_seconds_max: Annotated[float | None, Field(ge=0)] = None
    dry_run: bool = False


class Clear(BaseModel):
    pipeline: str | None = None
    dry_run: bool = False


@router.get("", summary="What results are kept, and how often they served")
def inspect_cache(services: Services, pipeline: str | None = None) -> CacheReport:
    return services.cache.inspect(pipeline=pipeline)


@router.put("/policy", summary="Set the limits of kept results, and the share that is audited")
def set_policy(services: Services, body: Policy) -> CachePolicy:
    return services.cache.set_policy(CachePolicy(body.bytes_max, body.age_seconds_max, body.audit_share))


@router.post("/evict", summary="Give up kept results, longest unused first, until limits hold")
def evict(services: Services, body: Evict) -> EvictionReport:
    return services.cache.evict(bytes_max=body.bytes_max, age_seconds_max=body.age_seconds_max, dry_run=body.dry_run)


@router.post("/clear", summary="Give up all kept results, or a pipeline's")
def clear(services: Services, body: Clear) -> EvictionReport:
    return services.cache.clear(pipeline=body.pipeline, dry_run=body.dry_run)
