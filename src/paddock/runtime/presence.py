"""Which servers a shared home has: each says now and then that it is there, and workers are told of all of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from paddock.catalog import pools as pools_sql
from paddock.model.errors import PaddockError
from paddock.versions.home import Home

NOTE_SECONDS = 20.0
SEEN_SECONDS = 120.0
"""A server that has not said so for that long is not named any more: it may have been busy, and clocks of hosts differ."""


class Presence:
    """One server's. Lists it from `start` to `stop`, in a thread; a catalog that is away is asked again later."""

    def __init__(self, home: Home, url: str) -> None:
        self._home = home
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Safe to call where it was not started."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._write(present=True)
            if self._stop.wait(NOTE_SECONDS):
                break
        self._write(present=False)

    def _write(self, *, present: bool) -> None:
        try:
            with self._home.catalog.write() as tx:
                if present:
                    pools_sql.note_server(tx, self._url, seen=self._home.now())
                else:
                    pools_sql.forget_server(tx, self._url)
        except PaddockError:
            pass  # whoever needs the catalog says so


def servers_of(home: Home) -> Sequence[str]:
    """Where the servers of a shared home are reached, the last seen first."""
    with home.catalog.read() as tx:
        return pools_sql.servers(tx, since=home.now() - SEEN_SECONDS)
