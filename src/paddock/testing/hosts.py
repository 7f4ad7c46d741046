"""Several hosts on one machine: network namespaces on one bridge, whose cables can be pulled.

All of it lives in namespaces of its own: the machine's own network has neither the bridge nor the addresses, and nothing is left of
them when the processes that hold them have ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

SUBNET = "10.77.0"
_TOOLS = ("ip", "unshare", "nsenter")


@dataclass(frozen=True, slots=True)
class Host:
    """address: where the other hosts reach it. prefix: what to put before a command that is to run there."""

    address: str
    prefix: tuple[str, ...]
    _switch: tuple[str, ...]
    _port: str

    def cut_off(self) -> None:
        """Pull its cable: packets get lost both ways, and nobody is told."""
        _run([*self._switch, "ip", "link", "set", self._port, "down"])

    def reconnect(self) -> None:
        _run([*self._switch, "ip", "link", "set", self._port, "up"])


def refusal() -> str:
    """Why there can be no such hosts here; empty where there can."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install iproute2 util-linux"
    try:
        with hosts(1):
            return ""
    except RuntimeError as error:
        return str(error)


@contextmanager
def hosts(count: int) -> Iterator[Sequence[Host]]:
    """So many hosts that reach each other. RuntimeError: this system does not allow it."""
    with ExitStack() as stack:
        switch = stack.enter_context(_namespace(()))
        _run([*switch, "ip", "link", "add", "switch", "type", "bridge"])
        _run([*switch, "ip", "link", "set", "switch", "up"])
        made = []
        for number in range(1, count + 1):
            port, address = f"port{number}", f"{SUBNET}.{number}"
            prefix = stack.enter_context(_namespace(switch))
            process = prefix[prefix.index("--target") + 1]
            _run([*switch, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", process])
            _run([*switch, "ip", "link", "set", port, "master", "switch", "up"])
            _run([*prefix, "ip", "address", "add", f"{address}/24", "dev", "eth0"])
            for name in ("lo", "eth0"):
                _run([*prefix, "ip", "link", "set", name, "up"])
            made.append(Host(address, prefix, switch, port))
        yield made


@contextmanager
def _namespace(within: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A new network namespace, and what puts a command into it. Held by a process that ends with this one, whose pipe it reads.

    within: puts a command beside the others, since only the user namespace that owns two networks may connect them.
    """
    own_user = os.geteuid() != 0 and not within
    words = [
        *within,
        "unshare",
        "--net",
        *(["--map-root-user"] if own_user else []),
        "sh",
        "-c",
        "echo ready; exec cat",
    ]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            if not holder.stdout.readline():
                raise RuntimeError(f"this system allows no network namespaces: {holder.stderr.read().strip()}")
            user = ["--user", "--preserve-credentials"] if os.geteuid() != 0 else []
            yield ("nsenter", "--target", str(holder.pid), *user, "--net")
        finally:
            holder.stdin.close()
            holder.wait()


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
