"""How an agent reaches the scheduler: over HTTP, at whichever server of the cluster schedules."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Sequence

from paddock.client.transport import Transport, path_of
from paddock.model.dataclass import dataclass
from paddock.model.errors import Conflict, NotFound, Unavailable
from paddock.runtime.capacity import Capacity
from paddock.runtime.engines.exchange_format import MEDIA_TYPE, read_down, write_up
from paddock.runtime.engines.network import POLL_SECONDS, Answer, FromWorker
from paddock.runtime.protocol import PROTOCOL_VERSION

SEND_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    url: str | None
    here: bool


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
    """Implements `client.agent.Uplink`. Any server of the cluster says which one schedules; that one is talked to."""

    def __init__(self, urls: Sequence[str], token: str, *, capacity: Capacity, host: str | None = None) -> None:
        """urls: of servers of one cluster, or of a load balancer before them. capacity: what the agent's workers share."""
        self._capacity = capacity
        self._token = token
        self._host = host or socket.gethostname()
        self._known = [Transport(url, token=token) for url in urls]
        self._lock = threading.Lock()
        self._scheduler: Transport | None = None

    def terms(self) -> Terms:
        """Join and say on what terms; the first call of an agent, before it has workers."""
        transport = self._find()
        body = {"host": self._host, **dataclasses.asdict(self._capacity), "protocol": PROTOCOL_VERSION}
        terms: Terms = transport.request(Terms, "POST", path_of("agents"), body=body)
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
            self._scheduler.request(None, "DELETE", path_of("agents", agent))

    def close(self) -> None:
        for transport in self._known:
            transport.close()

    def _find(self) -> Transport:
        """The server that schedules. Unavailable: none does that can be reached."""
        problem: Unavailable | None = None
        for transport in list(self._known):
            try:
                place: Place = transport.request(Place, "GET", path_of("scheduler"))
            except Unavailable as error:
                problem = error
                continue
            if place.here:
                return self._use(transport)
            if place.url:
                return self._use(self._at(place.url))
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

    def _use(self, transport: Transport) -> Transport:
        self._scheduler = transport
        return transport
