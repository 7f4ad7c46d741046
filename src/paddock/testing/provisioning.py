"""A provisioner for tests: its members are real `paddock worker` processes on this machine, and it can be told to go wrong.

Like those of a cluster, its members outlive the server that started them, and the next server finds them: each is a folder, with its
pool, its process id and in the end its exit code. A test tells it how to behave through a file of the same folder, at any time and
across processes. `python -m paddock.testing.provisioning HOME up …` is a server on which the engine `slurm` is this one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from paddock.api.app import create_app
from paddock.api.server import address_of, listen
from paddock.cli import output
from paddock.cli.commands.up import serve_home
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import InvalidInput, Unavailable
from paddock.model.records import EngineName
from paddock.runtime import fleet
from paddock.runtime.cluster import Cluster
from paddock.runtime.engines.provisioner import MEMBER_PATIENCE, Member, MemberState, PoolTemplate, Site
from paddock.runtime.server import Server
from paddock.settings import Settings
from paddock.testing.servers import RunningServer, running_server

STOP_SECONDS = 20.0
_BEHAVIOUR = "behaviour.json"
_WRAPPER = 'trap : TERM; "$@" & child=$!; wait $child; wait $child; code=$?; echo $code > exit.new; mv exit.new exit'
"""Notes how a member ended, whether or not its server still lives; a signal is for the member."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What goes wrong, each as a reason; empty: nothing. away: it can't be reached. refuse: it starts nothing.

    fail: what it starts ends at once. hold: what it starts waits, until there is no such reason any more (a blank: without a reason).
    """

    away: str = ""
    refuse: str = ""
    fail: str = ""
    hold: str = ""


class LocalProvisioner:
    """Implements `Provisioner`. `behave` and `pids` are for tests, which may have another object on the same folder."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder = folder
        self._url = url
        self._children: list[subprocess.Popen[bytes]] = []

    def behave(self, behaviour: Behaviour = Behaviour()) -> None:
        _write(self._folder / _BEHAVIOUR, json.dumps(asdict(behaviour)))

    def pids(self) -> dict[str, int]:
        """Process ids by name of the members that run."""
        return {
            folder.name: int((folder / "pid").read_text())
            for folder in self._members()
            if (folder / "pid").exists() and not (folder / "exit").exists()
        }

    def exit_codes(self) -> dict[str, int]:
        """Of members that ran and have ended."""
        return {
            folder.name: int((folder / "exit").read_text()) for folder in self._members() if (folder / "exit").exists()
        }

    def kill_all(self) -> None:
        """End what still runs: the end of a test."""
        for pid in self.pids().values():
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for child in self._children:
            child.wait(STOP_SECONDS)

    # ---- Provisioner ---------------------------------------------------------------------------------------

    def members(self) -> Sequence[Member]:
        behaviour = self._behaviour()
        if behaviour.away:
            raise Unavailable(behaviour.away)
        for child in self._children:
            child.poll()
        for folder in self._members():
            if not behaviour.hold and (folder / "command").exists() and not (folder / "pid").exists():
                self._launch(folder)
        return [self._member(folder, behaviour) for folder in self._members()]

    def start(self, template: PoolTemplate, count: int) -> None:
        behaviour = self._behaviour()
        if behaviour.refuse:
            raise InvalidInput(behaviour.refuse)
        for _ in range(count):
            name = f"member-{uuid.uuid4().hex[:8]}"
            folder = self._folder / name
            folder.mkdir(mode=0o700)
            _write(folder / "token", template.token)
            _write(folder / "pool", template.name)
            if behaviour.fail:
                _write(folder / "failed", behaviour.fail)
                continue
            command = [sys.executable, "-m", "paddock", "--url", self._url, "worker", "--name", name]
            command += [
                "--token-file",
                str(folder / "token"),
                "--slots",
                "1",
                "--patience",
                MEMBER_PATIENCE,
                "--scratch",
                str(folder),
            ]
            _write(folder / "command", json.dumps(command))
            if not behaviour.hold:
                self._launch(folder)

    def cancel(self, names: Sequence[str]) -> None:
        for name in names:
            folder = self._folder / name
            pid = self.pids().get(name)
            if pid is not None:
                try:
                    os.killpg(pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
            elif (folder / "command").exists():
                (folder / "command").unlink()
                _write(folder / "exit", "0")

    def remove_pool(self, name: str) -> None:
        self.cancel([folder.name for folder in self._members() if (folder / "pool").read_text() == name])
        (self._folder / f"removed-{name}").touch()

    def close(self) -> None:
        pass

    # ---- inside --------------------------------------------------------------------------------------------

    def _behaviour(self) -> Behaviour:
        file = self._folder / _BEHAVIOUR
        return Behaviour(**json.loads(file.read_text())) if file.exists() else Behaviour()

    def _members(self) -> Iterator[Path]:
        return (folder for folder in sorted(self._folder.glob("member-*")) if (folder / "pool").exists())

    def _launch(self, folder: Path) -> None:
        command = json.loads((folder / "command").read_text())
        with (folder / "errors").open("wb") as errors:
            child = subprocess.Popen(
                ["/bin/sh", "-c", _WRAPPER, "sh", *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        self._children.append(child)
        _write(folder / "pid", str(child.pid))

    def _member(self, folder: Path, behaviour: Behaviour) -> Member:
        name, pool = folder.name, (folder / "pool").read_text()
        if (folder / "failed").exists():
            return Member(name, pool, MemberState.ENDED, (folder / "failed").read_text())
        if (folder / "exit").exists():
            code = int((folder / "exit").read_text())
            return Member(name, pool, MemberState.ENDED, f"it ended with exit code {code}" if code else "")
        if not (folder / "pid").exists():
            return Member(name, pool, MemberState.WAITING, behaviour.hold.strip())
        if not Path(f"/proc/{(folder / 'pid').read_text()}").exists():
            return Member(name, pool, MemberState.ENDED, "it was killed")
        return Member(name, pool, MemberState.STARTED)


def _write(file: Path, text: str) -> None:
    """At once: others look while it is written."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@contextmanager
def provisioned_server(
    home: Path | None, folder: Path, *, port: int = 0, catalog: str = "", storage: str = "", worker_url: str = ""
) -> Iterator[RunningServer]:
    """A server, in a process of its own, whose engine `slurm` starts members in `folder`; it starts no workers itself. worker_url: where
    members look for servers, if not at the one that starts them.
    """
    options = ["--folder", str(folder), *(["--worker-url", worker_url] if worker_url else [])]
    with running_server(
        home, workers=0, port=port, catalog=catalog, storage=storage, module=__name__, options=options
    ) as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("up")
    parser.add_argument("--port", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--catalog")
    parser.add_argument("--storage")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--worker-url")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    # Processes of this machine are there sooner than those of a cluster, and tests wait for them.
    fleet.ROUND_SECONDS, fleet.COUNTS_SECONDS, fleet.UNNEEDED_SECONDS = 0.1, 0.1, 0.5
    settings = Settings(engine="slurm", worker_url=given.worker_url)
    found = EmbeddedPaddock.find(given.home, catalog=given.catalog, storage=given.storage, settings=settings)
    with found as paddock, listen("127.0.0.1", given.port) as listener:
        url = address_of(listener)
        cluster = Cluster(paddock.home, url=url, storage=paddock.home.storage)
        server = Server(
            paddock.home,
            workers=given.workers,
            options=paddock.worker_options,
            cluster=cluster,
            settings=settings,
            open_provisioner=partial(_open, given.folder),
        )
        serve_home(create_app(paddock, cluster=cluster), listener, server, on_ready=partial(_announce, url))


def _open(folder: Path, engine: EngineName, site: Site) -> LocalProvisioner:
    if engine != "slurm":
        raise InvalidInput(f"this server has no engine {engine}; name slurm")
    return LocalProvisioner(folder, site.url)


def _announce(url: str) -> None:
    output.document({"url": url})
    output.flush()


if __name__ == "__main__":
    main()
