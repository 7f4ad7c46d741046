"""An HTTP proxy that stands before a real object store and makes it misbehave, one request at a time."""

from __future__ import annotations

import enum
import http.client
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

SLOW_SECONDS = 0.05


class StoreFault(enum.Enum):
    """What happens to one request."""

    ERROR = "answered with a 500; nothing was done"
    BUSY = "answered with a 503; nothing was done"
    FULL = "answered with a 507; nothing was done"
    ERROR_AFTER = "done, then answered with a 500"
    RESET_AFTER = "done, then the connection is reset"
    TRUNCATED = "done; the body of the answer breaks off in the middle"
    FLIPPED = "done; one bit of the answer's body is another"
    STALE = "a listing is answered as it was the first time; another request rightly"
    SLOW = "done, a little later"


@dataclass(frozen=True, slots=True)
class StoreRequest:
    number: int
    """From 1, since the proxy began or `reset`."""
    method: str
    path: str

    @property
    def lists(self) -> bool:
        return self.method == "GET" and "list-type=2" in self.path


_REFUSALS: dict[StoreFault | None, int] = {StoreFault.ERROR: 500, StoreFault.BUSY: 503, StoreFault.FULL: 507}

Plan = Callable[[StoreRequest], StoreFault | None]


def no_faults(_request: StoreRequest) -> StoreFault | None:
    return None


def fault_at(number: int, fault: StoreFault) -> Plan:
    """The `number`-th request fails, no other."""
    return lambda request: fault if request.number == number else None


def random_faults(seed: int, share: float, faults: tuple[StoreFault, ...]) -> Plan:
    """A share of the requests fails, each with one of `faults`; never two in a row, so that retries are enough."""
    generator = random.Random(seed)
    lock = threading.Lock()
    calm = False

    def plan(_request: StoreRequest) -> StoreFault | None:
        nonlocal calm
        with lock:
            fails = not calm and generator.random() < share
            calm = fails
            return generator.choice(faults) if fails else None

    return plan


class StoreProxy:
    """Passes requests on to `endpoint` (http://host:port); `plan` says which ones fail, and how."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self.target = (parts.hostname or "", parts.port or 80)
        self.plan: Plan = no_faults
        self.count = 0
        self.faults: list[tuple[StoreRequest, StoreFault]] = []
        self.listings: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def reset(self, plan: Plan = no_faults) -> None:
        with self._lock:
            self.plan, self.count, self.faults = plan, 0, []

    def next_fault(self, method: str, path: str) -> tuple[StoreRequest, StoreFault | None]:
        with self._lock:
            self.count += 1
            request = StoreRequest(self.count, method, path)
            fault = self.plan(request)
            if fault is not None:
                self.faults.append((request, fault))
            return request, fault

    def __enter__(self) -> StoreProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: StoreProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def proxy(self) -> StoreProxy:
        assert isinstance(self.server, _Server)
        return self.server.proxy

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request, fault = self.proxy.next_fault(self.command, self.path)
        refused = _REFUSALS.get(fault)
        if refused is not None:
            self._refuse(refused)
            return
        status, headers, answer = self._forward(body)
        if request.lists:
            first = self.proxy.listings.setdefault(self.path, (status, headers, answer))
            if fault is StoreFault.STALE:
                status, headers, answer = first
        self._misbehave(fault, status, headers, answer)

    def _misbehave(self, fault: StoreFault | None, status: int, headers: list[tuple[str, str]], answer: bytes) -> None:
        middle = len(answer) // 2
        match fault:
            case StoreFault.ERROR_AFTER:
                self._refuse(500)
            case StoreFault.RESET_AFTER:
                self._reset()
            case StoreFault.TRUNCATED:
                self._answer(status, headers, answer, sent=middle)
                self._reset()
            case StoreFault.FLIPPED if self.command == "GET" and answer and "list-type" not in self.path:
                self._answer(status, headers, answer[:middle] + bytes([answer[middle] ^ 1]) + answer[middle + 1 :])
            case StoreFault.SLOW:
                threading.Event().wait(SLOW_SECONDS)
                self._answer(status, headers, answer)
            case _:
                self._answer(status, headers, answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - the names that http.server calls

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.proxy.target, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            found = connection.getresponse()
            return found.status, found.getheaders(), found.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length") if self.command == "HEAD" else str(len(body))
        if status not in (204, 304) and length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        try:
            self.wfile.write(body if sent is None else body[:sent])
            self.wfile.flush()
        except BrokenPipeError:
            self.close_connection = True  # whoever asked is gone

    def _refuse(self, status: int) -> None:
        self._answer(status, [], b"<Error><Code>InternalError</Code><Message>injected</Message></Error>")

    def _reset(self) -> None:
        """End the connection with a reset, not an orderly end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass  # the connection was reset on purpose
