"""A real PostgreSQL server of the tests' own, on a socket in a temporary folder, and on an address where one is named."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
START_SECONDS = 60


def installed() -> bool:
    return bool(BINARIES) or shutil.which("postgres") is not None


@dataclass(frozen=True, slots=True)
class RunningPostgres:
    folder: Path
    user: str
    process: subprocess.Popen[bytes]
    address: str = ""
    """Where other hosts reach it."""

    def url(self, database: str = "postgres") -> str:
        return f"postgresql:///{database}?host={self.folder}&user={self.user}"

    def create(self, database: str) -> str:
        """A new database; its URL, which is for other hosts where the server has an address."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return f"postgresql://{self.user}@{self.address}/{database}" if self.address else self.url(database)

    def cut(self, database: str) -> int:
        """End all sessions of a database, as a network that fails would; how many there were."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                (database,),
            ).fetchall()
        return len(ended)

    @contextmanager
    def closed(self, database: str) -> Iterator[None]:
        """The database takes no connections, and has ended those that there were."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS false')
            self.cut(database)
            yield
            connection.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS true')


@contextmanager
def running_postgres(*, address: str = "", prefix: Sequence[str] = ()) -> Iterator[RunningPostgres]:
    """A server with an empty cluster. It refuses to run as root, so there it runs as the user `postgres` of the package.

    address: where it listens, besides its socket; whoever reaches it there is trusted. prefix: a program that starts it, as root of
    a network of its own (`paddock.testing.hosts`).
    """
    found = BINARIES[-1].parent if BINARIES else Path(shutil.which("postgres") or "postgres").parent
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="paddock-pg-", dir="/tmp"))  # a socket's path may have 107 bytes
    account = user if os.geteuid() == 0 else None
    try:
        if account:
            shutil.chown(folder, account)
        data = folder / "data"
        initdb = [
            str(found / "initdb"),
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--username",
            user,
            "-D",
            str(data),
        ]
        subprocess.run(initdb, check=True, user=account, stdout=subprocess.DEVNULL, cwd=folder)
        if address:
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")
        # fsync is off: no test here loses power, and the disk is shared.
        command = [
            str(found / "postgres"),
            "-D",
            str(data),
            "-k",
            str(folder),
            "-c",
            f"listen_addresses={address}",
            "-c",
            "fsync=off",
        ]
        log = folder / "log"
        with log.open("wb") as stream:
            words = [*prefix, *(_as_user(account) if prefix else []), *command]
            starter = None if prefix else account
            process = subprocess.Popen(words, user=starter, stdout=stream, stderr=stream, cwd=folder)
        try:
            wait = [str(found / "pg_isready"), "-h", str(folder), "-q", "-t", "1"]
            deadline_tries = START_SECONDS * 10
            while subprocess.run(wait, check=False).returncode != 0:
                deadline_tries -= 1
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    if deadline_tries:
                        continue
                raise AssertionError(f"PostgreSQL does not start: {log.read_text(errors='replace')[-2000:]}")
            yield RunningPostgres(folder, user, process, address)
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user(account: str | None) -> list[str]:
    """What starts a program as this account, or, without one, as this process's user where it looks like root."""
    if account is None:
        return ["unshare", "--user", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
    return ["setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups"]
