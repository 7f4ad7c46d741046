"""Pools over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.client.transport import Transport, path_of
from paddock.model.addresses import check_name
from paddock.model.dataclass import dataclass
from paddock.model.records import NewPoolToken, Pool, PoolToken


@dataclass(frozen=True, slots=True)
class HttpPools:
    transport: Transport

    def list(self) -> Sequence[Pool]:
        result: tuple[Pool, ...] = self.transport.request(tuple[Pool, ...], "GET", path_of("pools"))
        return result

    def create_token(self, pool: str, *, description: str = "") -> NewPoolToken:
        path = path_of("pools", check_name("pool", pool), "tokens")
        result: NewPoolToken = self.transport.request(NewPoolToken, "POST", path, body={"description": description})
        return result

    def list_tokens(self) -> Sequence[PoolToken]:
        result: tuple[PoolToken, ...] = self.transport.request(tuple[PoolToken, ...], "GET", path_of("pool-tokens"))
        return result

    def delete_token(self, id: int) -> None:
        self.transport.request(None, "DELETE", path_of("pool-tokens", str(id)))
