"""`/store`: upkeep of the home's bulk storage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from paddock.api.dependencies import Services
from paddock.model.store_records import CheckReport, GarbageReport, UsageReport

router = APIRouter(prefix="/store", tags=["store"])


class Collect(BaseModel):
    grace_seconds: Annotated[float | None, Field(ge=0)] = None
    dry_run: bool = False


class Check(BaseModel):
    data: bool = False
    repair: bool = False


@router.post("/gc", summary="Remove stored bytes that nothing refers to")
def collect_garbage(services: Services, body: Collect) -> GarbageReport:
    return services.store.collect_garbage(grace_seconds=body.grace_seconds, dry_run=body.dry_run)


@router.post("/check", summary="Check that everything stored can be read, and repair it")
def check(services: Services, body: Check) -> CheckReport:
    return services.store.check(data=body.data, repair=body.repair)


@router.get("/usage", summary="What repos, branches and commits cost")
def usage(services: Services, address: str | None = None) -> UsageReport:
    return services.store.usage(address)
