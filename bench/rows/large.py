"""Large files: added against a durable `cp`, restic and borg; added again after an insertion; read back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import peers
from measure import (
    Budget,
    Contender,
    Result,
    Settings,
    fresh,
    median,
    paddock,
    peak_memory_mb,
    put_command,
    rounds_of,
    run,
    write_large_files,
)

FILES = 4
FILE_BYTES = 1 << 30
QUICK_FILE_BYTES = 32 << 20
INSERTED_BYTES = 1 << 10
STORED_BYTES_MAX = 20 << 20
MEMORY_MB = 500
CP = "cp + fsync"
RESTIC = "restic backup"
BORG = "borg create"


def add_large(settings: Settings) -> Result:
    size = settings.size(FILE_BYTES, QUICK_FILE_BYTES)
    source, home = settings.work / "source", settings.work / "home"
    write_large_files(source, FILES, size)
    target = settings.work / "target"  # one for all, emptied before each, so that two copies are the most on disk

    def put(_: int) -> Callable[[], object]:
        _clear(target)
        paddock(fresh(home), "repo", "create", "data")
        return lambda: run(put_command(home, source))

    contenders: dict[str, Contender] = {
        "Paddock": put,
        CP: lambda _: _clear(home, target) or (lambda: _copy_durably(source, target)),
        **_restic(source, target, home),
        **_borg(source, target),
    }
    rounds = rounds_of(settings.repeats, contenders, once=(RESTIC, BORG))
    samples = rounds.pop("Paddock")
    others = {name: median(peer) for name, peer in rounds.items()}
    seconds = median(samples)
    put(0)
    memory = peak_memory_mb(put_command(home, source))
    budgets = [
        Budget("<= 2 x cp + fsync", seconds / others[CP], 2),
        *([Budget("<= 1/3 of restic", seconds / others[RESTIC], 1 / 3)] if RESTIC in others else []),
        Budget(f"peak memory < {MEMORY_MB} MB", memory, MEMORY_MB),
    ]
    return Result(
        name="add-large",
        what=f"add and commit {FILES} files of {size >> 20:,} MiB that do not compress",
        seconds=seconds,
        samples=samples,
        others=others,
        budgets=tuple(budgets),
        notes=peers.notes("restic", "borgbackup"),
        facts={"MB_per_second": FILES * size / 1e6 / seconds},
    )


def add_inserted(settings: Settings) -> Result:
    """A file again after 1 KiB was inserted in its middle; each round inserts another."""
    size = settings.size(FILE_BYTES, QUICK_FILE_BYTES)
    source, home, target = (settings.work / name for name in ("source", "home", "target"))
    write_large_files(source, 1, size)
    file = source / "large0"
    paddock(home, "repo", "create", "data")
    run(put_command(home, source))
    stored: list[int] = []

    def put(number: int) -> Callable[[], object]:
        _insert(file, size // 2, number)
        before = _bytes_below(home / "objects")

        def action() -> None:
            run(put_command(home, source))
            stored.append(_bytes_below(home / "objects") - before)

        return action

    contenders: dict[str, Contender] = {"Paddock": put}
    if restic := _restic(source, target, None):
        restic[RESTIC](0)()

        def again(number: int) -> Callable[[], object]:
            _insert(file, size // 3, number)
            return _restic_backup(source, target)

        contenders[RESTIC] = again
    rounds = rounds_of(settings.repeats, contenders)
    samples = rounds.pop("Paddock")
    others = {name: median(peer) for name, peer in rounds.items()}
    seconds = median(samples)
    _insert(file, size // 2, settings.repeats)
    memory = peak_memory_mb(put_command(home, source))
    budgets = [
        Budget(f"stores < {STORED_BYTES_MAX >> 20} MiB", max(stored), STORED_BYTES_MAX),
        *([Budget("<= 1/3 of restic", seconds / others[RESTIC], 1 / 3)] if RESTIC in others else []),
        Budget(f"peak memory < {MEMORY_MB} MB", memory, MEMORY_MB),
    ]
    return Result(
        name="add-inserted",
        what=f"add a file of {size >> 20:,} MiB again after 1 KiB was inserted in its middle",
        seconds=seconds,
        samples=samples,
        others=others,
        budgets=tuple(budgets),
        notes=peers.notes("restic"),
    )


def _insert(file: Path, position: int, number: int) -> None:
    """Insert bytes that differ by round, by way of a new file."""
    changed = file.with_suffix(".new")
    with file.open("rb") as old, changed.open("wb") as new:
        left = position
        while left:
            data = old.read(min(left, 16 << 20))
            new.write(data)
            left -= len(data)
        new.write(bytes([number % 256]) * INSERTED_BYTES)
        shutil.copyfileobj(old, new, 16 << 20)
    changed.replace(file)


def _clear(*directories: Path) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _bytes_below(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _copy_durably(source: Path, target: Path) -> None:
    run(["cp", "-r", str(source), str(target)])
    run(["sync", *(str(path) for path in target.iterdir())])


def _restic(source: Path, target: Path, home: Path | None) -> dict[str, Contender]:
    if peers.program("restic") is None:
        return {}

    def prepare(_: int) -> Callable[[], object]:
        _clear(target, *([home] if home else []))
        run(_restic_words(target, "init"))
        return _restic_backup(source, target)

    return {RESTIC: prepare}


def _restic_backup(source: Path, target: Path) -> Callable[[], object]:
    return lambda: run(_restic_words(target, "backup", str(source)))


def _restic_words(target: Path, *words: str) -> list[str]:
    return ["env", "RESTIC_PASSWORD=bench", str(peers.program("restic")), "-q", "--no-cache", "-r", str(target), *words]


def _borg(source: Path, target: Path) -> dict[str, Contender]:
    program = peers.program("borgbackup")
    if program is None:
        return {}

    def prepare(_: int) -> Callable[[], object]:
        environment = ["env", f"BORG_BASE_DIR={fresh(target.with_name('borg'))}"]
        _clear(target)
        run([*environment, program, "init", "--encryption", "none", str(target)])
        return lambda: run([*environment, program, "create", f"{target}::all", str(source)])

    return {BORG: prepare}
