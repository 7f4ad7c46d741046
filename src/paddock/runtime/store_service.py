"""Upkeep of a home's bulk storage. Implements `model.services.Store`."""

from __future__ import annotations

from pathlib import Path

from paddock.model.store_records import CheckReport, GarbageReport, UsageReport
from paddock.runtime.disk_usage import usage_of
from paddock.runtime.fsck import check_store
from paddock.runtime.garbage import collect_garbage
from paddock.versions.home import Home


class StoreService:
    def __init__(self, home: Home) -> None:
        self._home = home

    def collect_garbage(self, *, grace_seconds: float | None = None, dry_run: bool = False) -> GarbageReport:
        if grace_seconds is None:
            return collect_garbage(self._home, dry_run=dry_run)
        return collect_garbage(self._home, grace_seconds=grace_seconds, dry_run=dry_run)

    def check(self, *, data: bool = False, repair: bool = False, source: Path | None = None) -> CheckReport:
        return check_store(self._home, data=data, repair=repair, source=source)

    def usage(self, address: str | None = None) -> UsageReport:
        return usage_of(self._home, address)
