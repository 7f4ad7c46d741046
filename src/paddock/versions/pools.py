"""Pools of workers: the tokens with which workers on other hosts join. Implements `model.services.Pools`."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Sequence

from paddock.catalog import pools
from paddock.catalog.pools import TokenRow
from paddock.model.addresses import check_name
from paddock.model.errors import NotFound, PermissionDenied
from paddock.model.records import NewPoolToken, Pool, PoolToken
from paddock.versions.home import Home
from paddock.versions.records import time_of

TOKEN_PREFIX = "pdk_"
"""With which all tokens of workers begin."""
_SECRET_BYTES = 32


class PoolService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def list(self) -> builtins.list[Pool]:
        with self._home.catalog.read() as tx:
            rows = pools.pools(tx)
        return [
            Pool(
                name=row.name,
                engine=row.engine,
                pipelines=row.pipelines,
                waiting=row.waiting,
                started=row.started,
                idle=row.idle,
                busy=row.busy,
                reason=row.reason,
                seen=time_of(row.seen),
            )
            for row in rows
        ]

    def create_token(self, pool: str, *, description: str = "") -> NewPoolToken:
        check_name("pool", pool)
        secret = f"{TOKEN_PREFIX}{pool}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        now = self._home.now()
        with self._home.catalog.write() as tx:
            id = pools.add_token(tx, pool, _digest(secret), description=description, created=now)
        return NewPoolToken(PoolToken(id, pool, description, time_of(now)), secret)

    def list_tokens(self) -> Sequence[PoolToken]:
        with self._home.catalog.read() as tx:
            return [_record(row) for row in pools.tokens(tx)]

    def delete_token(self, id: int) -> None:
        with self._home.catalog.write() as tx:
            if pools.token(tx, id) is None:
                raise NotFound(f"there is no token {id}; `paddock pool tokens` lists them")
            pools.delete_token(tx, id)


def pool_of_token(home: Home, secret: str) -> str:
    """The pool that a token is good for. PermissionDenied: none, or not any more."""
    with home.catalog.read() as tx:
        row = pools.token_of_digest(tx, _digest(secret))
    if row is None:
        raise PermissionDenied("this worker token is not known (any more); make one with `paddock pool token POOL`")
    return row.pool


def permit_secret(home: Home) -> bytes:
    """The key with which the home's servers sign what workers may read; made where there is none yet."""
    with home.catalog.read() as tx:
        found = pools.permit_secret(tx)
    if found is None:
        with home.catalog.write() as tx:
            found = pools.permit_secret(tx)  # another server may have been first
            if found is None:
                found = secrets.token_hex(_SECRET_BYTES)
                pools.set_permit_secret(tx, found, created=home.now())
    return bytes.fromhex(found)


def _digest(secret: str) -> str:
    from blake3 import blake3

    return blake3(secret.encode()).hexdigest()


def _record(row: TokenRow) -> PoolToken:
    return PoolToken(row.id, row.pool, row.description, time_of(row.created))
