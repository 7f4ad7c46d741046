"""Upkeep of a server's bulk storage, over HTTP."""

from __future__ import annotations

from pathlib import Path

from paddock.client.transport import Transport, path_of
from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.store_records import CheckReport, GarbageReport, UsageReport


@dataclass(frozen=True, slots=True)
class HttpStore:
    """Each call is one request, which is answered when the server is done."""

    transport: Transport

    def collect_garbage(self, *, grace_seconds: float | None = None, dry_run: bool = False) -> GarbageReport:
        body = {"grace_seconds": grace_seconds, "dry_run": dry_run}
        result: GarbageReport = self.transport.request(
            GarbageReport, "POST", path_of("store", "gc"), body=body, patient=True
        )
        return result

    def check(self, *, data: bool = False, repair: bool = False, source: Path | None = None) -> CheckReport:
        if source is not None:
            raise InvalidInput(
                f"a repair from {source} needs the home itself; run it where the server runs, with --home in place of --url"
            )
        body = {"data": data, "repair": repair}
        result: CheckReport = self.transport.request(
            CheckReport, "POST", path_of("store", "check"), body=body, patient=True
        )
        return result

    def usage(self, address: str | None = None) -> UsageReport:
        result: UsageReport = self.transport.request(
            UsageReport, "GET", path_of("store", "usage"), parameters={"address": address}, patient=True
        )
        return result
