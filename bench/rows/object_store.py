"""A home on S3, served by SeaweedFS on loopback, beside the server's own floor: the same bytes sent and fetched raw."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import peers
from measure import (
    PADDOCK,
    Result,
    Settings,
    fresh,
    median,
    paddock,
    put_command,
    rounds_of,
    run,
    write_large_files,
    write_small_files,
)

from paddock.storage.network_objects import NetworkObjects
from paddock.storage.object_urls import open_objects, parse_store_url
from paddock.testing.object_servers import BUCKET, S3Server

FILE_BYTES = 2048
THREADS = 16
PIECE_BYTES = 8 << 20
RAW = "raw, one object, in parts"
EACH = f"an object a file, {THREADS} threads"


def s3_put_large(settings: Settings) -> Result:
    return _large(settings, "s3-put-large", putting=True)


def s3_get_large(settings: Settings) -> Result:
    return _large(settings, "s3-get-large", putting=False)


def s3_put_small(settings: Settings) -> Result:
    return _small(settings, "s3-put-small", putting=True)


def s3_get_small(settings: Settings) -> Result:
    return _small(settings, "s3-get-small", putting=False)


def _large(settings: Settings, name: str, *, putting: bool) -> Result:
    size = settings.size(1 << 30, 64 << 20)
    source = settings.work / "source"
    write_large_files(source, 1, size)
    file = next(path for path in source.rglob("*") if path.is_file())
    words = f"{'put' if putting else 'get'} one file of {size >> 20:,} MiB"
    with _server(settings) as store:

        def send() -> None:
            with file.open("rb") as stream:
                store.replace("raw/large", iter(lambda: stream.read(PIECE_BYTES), b""))

        def fetch() -> None:
            with (settings.work / "raw").open("wb") as stream:
                stream.writelines(store.stream("raw/large"))

        return _measured(settings, name, words, source, putting, {RAW: (send, fetch)})


def _small(settings: Settings, name: str, *, putting: bool) -> Result:
    count = settings.size(10_000, 500)
    source = settings.work / "source"
    write_small_files(source, count, FILE_BYTES)
    files = [path for path in source.rglob("*") if path.is_file()]
    words = f"{'put' if putting else 'get'} {count:,} files of 2 KiB"
    with _server(settings) as store:

        def send() -> None:
            store.replace("raw/small", (path.read_bytes() for path in files))

        def fetch() -> None:
            (settings.work / "raw").write_bytes(store.read("raw/small"))

        def send_each() -> None:
            with ThreadPoolExecutor(THREADS) as threads:
                list(threads.map(lambda path: store.replace(f"each/{path.name}", [path.read_bytes()]), files))

        def fetch_each() -> None:
            target = fresh(settings.work / "each")
            with ThreadPoolExecutor(THREADS) as threads:
                list(threads.map(lambda p: (target / p.name).write_bytes(store.read(f"each/{p.name}")), files))

        return _measured(settings, name, words, source, putting, {RAW: (send, fetch), EACH: (send_each, fetch_each)})


def _measured(
    settings: Settings,
    name: str,
    what: str,
    source: Path,
    putting: bool,
    raw: dict[str, tuple[Callable[[], None], Callable[[], None]]],
) -> Result:
    def home(number: int) -> Path:
        path = settings.work / f"home{number}"
        if not path.exists():
            run([PADDOCK, "--home", str(path), "init", "--storage", f"s3://{BUCKET}/{path.name}"])
            paddock(path, "repo", "create", "data")
        return path

    def put(number: int) -> Callable[[], object]:
        place = home(number)
        return lambda: run(put_command(place, source))

    def get(number: int) -> Callable[[], object]:
        target = settings.work / "out"
        shutil.rmtree(target, ignore_errors=True)
        return lambda: run([PADDOCK, "--home", str(home(0)), "get", "data@main", "-o", str(target)])

    if not putting:
        put(0)()
        for send, _ in raw.values():
            send()
    contenders = {other: (lambda _, calls=calls: calls[0 if putting else 1]) for other, calls in raw.items()}
    rounds = rounds_of(settings.repeats, {"Paddock": put if putting else get, **contenders})
    samples = rounds.pop("Paddock")
    return Result(
        name=name,
        what=f"{what}, the home's data on S3",
        seconds=median(samples),
        samples=samples,
        others={other: median(found) for other, found in rounds.items()},
        budgets=(),
    )


@contextmanager
def _server(settings: Settings) -> Iterator[NetworkObjects]:
    program = peers.program("seaweedfs", "weed")
    if program is None:
        raise SystemExit("; ".join(peers.notes("seaweedfs")))
    with S3Server(program, settings.work / "server") as server:
        os.environ.update(server.environment())
        store = open_objects(parse_store_url(f"s3://{BUCKET}/floor"))
        assert isinstance(store, NetworkObjects)
        yield store
