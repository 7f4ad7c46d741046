"""Enter a datum's world and run one command there, on the terminal that this process was given.

    python -m paddock.runtime.datum_entry SCRATCH [--isolated]

SCRATCH holds `pfs/` as the command is to see it, an empty `root/`, and `run.json`: words, environment, cwd, the standard input as
text (null: the terminal's), and limits. What exceeds one is ended with a message; of a shell, what it has started. Exit code: the command's, 128 + N where signal N ended it, 127 where it can't be started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddock.runtime import sandbox
from paddock.runtime.commands import CannotStart, explain_start_failure, find_program
from paddock.runtime.limits import LimitWatch
from paddock.runtime.process_memory import descendants
from paddock.runtime.protocol import Limit

CANNOT_START = 127
REFUSED = 126
LIMIT_EXCEEDED = 128 + signal.SIGKILL
WATCH_SECONDS = 0.02


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m paddock.runtime.datum_entry", description="Run one datum's command."
    )
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--isolated", action="store_true")
    options = parser.parse_args(words)
    run = json.loads((options.scratch / "run.json").read_text(encoding="utf-8"))
    # Ctrl-C and Ctrl-\ are the command's; this process only waits for its end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    if not options.isolated:
        sandbox.adopt_orphans()
        return _run(run)
    try:
        sandbox.enter_namespaces()
        child = os.fork()
        if child == 0:
            sandbox.enter_private_root(options.scratch)
            os._exit(_run(run))
    except sandbox.SandboxError as refusal:
        sys.stderr.write(f"paddock: {refusal}; try again with PADDOCK_SANDBOX=directory\n")
        return REFUSED
    return _exit_code(os.waitpid(child, 0)[1])


def _run(run: dict[str, Any]) -> int:
    environment: dict[str, str] = run["environment"]
    words: list[str] = run["words"]
    try:
        os.chdir(run["cwd"])
    except OSError as error:
        sys.stderr.write(f"paddock: the working directory {run['cwd']} cannot be entered: {error.strerror}\n")
        return CANNOT_START
    program = find_program(words[0], environment.get("PATH", os.defpath), run["cwd"])
    if isinstance(program, CannotStart):
        sys.stderr.write(f"paddock: {program.reason}\n")
        return CANNOT_START
    actions = []
    if run["stdin"] is not None:
        with tempfile.TemporaryFile() as file:
            file.write(run["stdin"].encode("utf-8", "surrogateescape"))
            file.seek(0)
            actions.append((os.POSIX_SPAWN_DUP2, os.dup(file.fileno()), 0))
    watch = None
    if run["limits"]:
        watch = LimitWatch([Limit(*each) for each in run["limits"]], out=run["out"], scratch=run["scratch"])
    if run.get("cpus_max"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: run["cpus_max"]])
    try:
        process = os.posix_spawn(
            program, words, environment, file_actions=actions, setsigdef=(signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE)
        )
    except (OSError, ValueError) as error:
        sys.stderr.write(f"paddock: {explain_start_failure(program, error)}\n")
        return CANNOT_START
    if watch is None:
        return _wait(process)
    watch.started(process)
    return _wait_and_watch(process, watch, shell=run["shell"])


def _wait(process: int) -> int:
    """Wait for the command; reap what others leave behind, as process 1 has to."""
    while True:
        ended, status = os.wait()
        if ended == process:
            return _exit_code(status)


def _wait_and_watch(process: int, watch: LimitWatch, *, shell: bool) -> int:
    """The same, while the limits are looked at."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == process:
            reason = "" if shell else watch.last_look()
            _tell(reason)
            return LIMIT_EXCEEDED if reason else _exit_code(status)
        if ended:
            continue
        reason = watch.look(time.monotonic())
        if reason:
            _tell(reason)
            _end_others(spared=process if shell else 0)
        time.sleep(WATCH_SECONDS)


def _tell(reason: str) -> None:
    if reason:
        sys.stderr.write(f"paddock: {reason}\n")


def _end_others(*, spared: int) -> None:
    """Kill all descendants but one. Their numbers are those of this /proc, which an isolated process has for itself."""
    for each in descendants():
        if each != spared:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(each, signal.SIGKILL)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
