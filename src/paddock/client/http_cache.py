"""Kept results of a server, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from paddock.client.transport import Transport, path_of
from paddock.model.cache_records import CachePolicy, CacheReport, EvictionReport
from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class HttpCache:
    transport: Transport

    def inspect(self, *, pipeline: str | None = None) -> CacheReport:
        result: CacheReport = self.transport.request(
            CacheReport, "GET", path_of("cache"), parameters={"pipeline": pipeline}
        )
        return result

    def set_policy(self, policy: CachePolicy) -> CachePolicy:
        result: CachePolicy = self.transport.request(
            CachePolicy, "PUT", path_of("cache", "policy"), body=asdict(policy)
        )
        return result

    def evict(
        self, *, bytes_max: int | None = None, age_seconds_max: float | None = None, dry_run: bool = False
    ) -> EvictionReport:
        body = {"bytes_max": bytes_max, "age_seconds_max": age_seconds_max, "dry_run": dry_run}
        return self._give_up("evict", body)

    def clear(self, *, pipeline: str | None = None, dry_run: bool = False) -> EvictionReport:
        return self._give_up("clear", {"pipeline": pipeline, "dry_run": dry_run})

    def _give_up(self, how: str, body: Mapping[str, object]) -> EvictionReport:
        result: EvictionReport = self.transport.request(EvictionReport, "POST", path_of("cache", how), body=body)
        return result
