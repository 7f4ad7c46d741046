"""Where the bench gets its peers: each from its own environment, made the first time that a row asks for it.

A peer from PyPI lives in `.venv-peers/NAME`, pinned by `bench/pins/NAME.txt`; nothing of it reaches Paddock's
own environment. A peer from Debian is taken where it is installed; `--install-peers` lets apt-get install it,
which needs root. A peer that can't be had is left out, and the row says so and why:

    peers.program("oxenai", "oxen")     the path of a program, or None
    peers.interpreter("ray")            the Python that can import it, or None
    peers.notes("oxenai", "restic")     for Result.notes: why each of these that is missing is missing
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ENVIRONMENTS = BENCH.parent / ".venv-peers"
PYPI = ("dask", "dvc", "hyperqueue", "oxenai", "ray", "snakemake")
DEBIAN = {"borgbackup": "borg", "git": "git", "parallel": "parallel", "restic": "restic"}

_reasons: dict[str, str] = {}
_apt_allowed = False


def allow_apt() -> None:
    """Let peers from Debian be installed when a row asks for them."""
    global _apt_allowed
    if os.geteuid() != 0:
        raise SystemExit(f"--install-peers needs root; without it: sudo apt-get install {' '.join(DEBIAN)}")
    _apt_allowed = True


def program(peer: str, name: str | None = None) -> str | None:
    """Path of a peer's program (`name` where it isn't the peer's own name); None where it can't be had."""
    if peer in DEBIAN:
        return _debian_program(peer)
    python = interpreter(peer)
    return None if python is None else _program_beside(python, peer, name or peer)


@functools.cache
def interpreter(peer: str) -> str | None:
    """The Python of a peer's environment, which the first call makes (seconds to minutes); None where it fails."""
    pins = BENCH / "pins" / f"{peer}.txt"
    python = ENVIRONMENTS / peer / "bin" / "python"
    made = ENVIRONMENTS / peer / ".pins"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    if not (made.is_file() and made.read_text(encoding="utf-8") == digest):
        print(f"installing {peer} for the bench", file=sys.stderr, flush=True)
        shutil.rmtree(ENVIRONMENTS / peer, ignore_errors=True)
        flags = ["--quiet", "--disable-pip-version-check", "--no-input"]
        reason = _failure([sys.executable, "-m", "venv", str(ENVIRONMENTS / peer)]) or _failure(
            [str(python), "-m", "pip", "install", *flags, "--requirement", str(pins)]
        )
        if reason:
            _reasons[peer] = reason
            return None
        made.write_text(digest, encoding="utf-8")
    return str(python)


def notes(*names: str) -> tuple[str, ...]:
    """A line for each of these peers that was asked for and could not be had."""
    return tuple(f"{name} is left out: {_reasons[name]}" for name in names if name in _reasons)


@functools.cache
def _debian_program(peer: str) -> str | None:
    name = DEBIAN[peer]
    if shutil.which(name) is None and _apt_allowed:
        print(f"installing {peer} for the bench", file=sys.stderr, flush=True)
        reason = _failure(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", peer])
        if reason:
            _reasons[peer] = reason
    found = shutil.which(name)
    if found is None:
        _reasons.setdefault(peer, "it is not installed; ARGS=--install-peers installs it with apt-get, as root")
    return found


def _program_beside(python: str, peer: str, name: str) -> str | None:
    path = Path(python).with_name(name)
    if path.is_file():
        return str(path)
    _reasons[peer] = f"its package brings no program {name}"
    return None


def _failure(words: list[str]) -> str | None:
    """Run a command; None where it succeeds, else the last line of what it said."""
    finished = subprocess.run(words, capture_output=True, text=True, check=False, env=_without_prompts())
    if finished.returncode == 0:
        return None
    said = (finished.stderr or finished.stdout).strip().splitlines()
    return said[-1] if said else f"{words[0]} failed with exit code {finished.returncode}"


def _without_prompts() -> dict[str, str]:
    return os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
