"""`/pools` and `/pool-tokens`: who may join with workers."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from paddock.api.dependencies import Services
from paddock.model.records import NewPoolToken, Pool, PoolToken

router = APIRouter(tags=["pools"])


class NewToken(BaseModel):
    description: str = ""


@router.get("/pools", summary="List pools with their workers")
def list_pools(services: Services) -> Sequence[Pool]:
    return services.pools.list()


@router.post("/pools/{pool}/tokens", summary="Make a token for workers of a pool", status_code=201)
def create_token(services: Services, pool: str, body: NewToken) -> NewPoolToken:
    return services.pools.create_token(pool, description=body.description)


@router.get("/pool-tokens", summary="List tokens of workers")
def list_tokens(services: Services) -> Sequence[PoolToken]:
    return services.pools.list_tokens()


@router.delete("/pool-tokens/{id}", summary="Delete a token; workers with it are refused from then on", status_code=204)
def delete_token(services: Services, id: int) -> None:
    services.pools.delete_token(id)
