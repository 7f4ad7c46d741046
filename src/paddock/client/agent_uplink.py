"""How an agent reaches the scheduler: over HTTP, at whichever server of the cluster schedules."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Sequence

from paddock.client.transport import Transport, path_of
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, NotFound, PaddockError, Unavailable
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.exchange_format import MEDIA_TYPE, read_down, write_up
from paddock.runtime.engines.network import POLL_SECONDS, Answer, FromWorker
from paddock.runtime.protocol import PROTOCOL_VERSION

SEND_TIMEOUT_SECONDS = 10.0
LEAVE_TIMEOUT_SECONDS = 3.0
"""Who leaves is missed after some seconds in any case."""
LOOK_SECONDS = 120.0
"""How often it asks which servers there are, where nothing happens: who knows one only is lost with it."""


@dataclass(frozen=True, slots=True)
class Place:
    url: str | None
    here: bool
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server tells an agent that joins."""

    agent: str
    home: str
    chunking: dict[str, int]
    storage: str | None
    protocol: int = 0
    """Version of the worker protocol that the server speaks."""


class HttpUplink:
    """Implements `client.agent.Uplink`. Any server of the cluster says which one schedules, and which others there are; the first is
    talked to, and the others are asked where that is gone."""

    def __init__(
        self,
        urls: Sequence[str],
        token: str,
        *,
        capacity: Capacity,
        host: str | None = None,
        on_servers: Callable[[Sequence[str]], None] = lambda urls: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """urls: of servers of one cluster, or of a load balancer before them. capacity: what the agent's workers share. on_servers: is
        told which servers are known, the one that schedules first; by one thread at a time."""
        self._capacity = capacity
        self._token = token
        self._host = host or socket.gethostname()
        self._given = tuple(url.rstrip("/") for url in urls)
        self._known = [Transport(url, token=token) for url in urls]
        self._forgotten: list[Transport] = []
        """Of servers that are not named any more; another thread may still have a request under way."""
        self._on_servers = on_servers
        self._monotonic = monotonic
        self._looked = monotonic()
        self._lock = threading.Lock()
        self._scheduler: Transport | None = None

    def terms(self) -> Terms:
        """Join and say on what terms; the first call of an agent, before it has workers."""
        transport = self._find()
        body = {"host": self._host, **dataclasses.asdict(self._capacity), "protocol": PROTOCOL_VERSION}
        terms: Terms = transport.request(
            Terms, "POST", path_of("agents"), body=body, timeout_seconds=SEND_TIMEOUT_SECONDS
        )
        if terms.protocol != PROTOCOL_VERSION:
            raise Conflict(
                f"the server at {transport.url} speaks version {terms.protocol} of the worker protocol, this worker version"
                f" {PROTOCOL_VERSION}; install the server's version of Paddock here"
            )
        return terms

    def join(self) -> str:
        return self.terms().agent

    def exchange(self, agent: str, *, received: int, messages: Sequence[FromWorker], wait: bool) -> Answer:
        transport = self._scheduler
        if transport is None:
            raise NotFound("no scheduler is known yet")
        if wait and self._monotonic() - self._looked >= LOOK_SECONDS:
            self._look_at_servers(transport)
        try:
            answer = transport.post(
                path_of("agents", agent, "exchange"),
                write_up(messages),
                MEDIA_TYPE,
                parameters={"received": received, "wait": wait},
                timeout_seconds=SEND_TIMEOUT_SECONDS + (POLL_SECONDS if wait else 0.0),
            )
        except Unavailable:
            if self._moved(transport):
                raise NotFound("another server schedules now") from None
            raise
        return read_down(answer)

    def leave(self, agent: str) -> None:
        if self._scheduler is not None:
            self._scheduler.request(None, "DELETE", path_of("agents", agent), timeout_seconds=LEAVE_TIMEOUT_SECONDS)

    def close(self) -> None:
        for transport in (*self._known, *self._forgotten):
            transport.close()

    def _find(self) -> Transport:
        """The server that schedules. Unavailable: none does that can be reached."""
        problem: Unavailable | None = None
        for transport in list(self._known):
            try:
                place = _place(transport)
            except Unavailable as error:
                problem = error
                continue
            if place.here or place.url:
                self._scheduler = transport if place.here else self._at(place.url or "")
                self._learn(self._scheduler, place.servers)
                return self._scheduler
        raise problem or Unavailable(f"no server at {self._known[0].url} schedules at the moment; waiting for one")

    def _moved(self, used: Transport) -> bool:
        """Whether another server than the one used schedules by now."""
        try:
            return self._find().url != used.url
        except Unavailable:
            return False

    def _at(self, url: str) -> Transport:
        with self._lock:
            for transport in self._known:
                if transport.url == url.rstrip("/"):
                    return transport
            transport = Transport(url, token=self._token)
            self._known.append(transport)
            return transport

    def _look_at_servers(self, scheduler: Transport) -> None:
        self._looked = self._monotonic()
        try:
            self._learn(scheduler, _place(scheduler).servers)
        except PaddockError:
            pass  # what comes next meets it too

    def _learn(self, scheduler: Transport, servers: Sequence[str]) -> None:
        """Know the servers that were given at first and those that the cluster has now, and no others."""
        self._looked = self._monotonic()
        for url in servers:
            self._at(url)
        wanted = {*self._given, scheduler.url, *(url.rstrip("/") for url in servers)}
        with self._lock:
            self._forgotten += [each for each in self._known if each.url not in wanted]
            self._known = [each for each in self._known if each.url in wanted]
            urls = [each.url for each in self._known]
            self._on_servers(sorted(urls, key=lambda url: url != scheduler.url))


def _place(transport: Transport) -> Place:
    place: Place = transport.request(Place, "GET", path_of("scheduler"), timeout_seconds=SEND_TIMEOUT_SECONDS)
    return place
