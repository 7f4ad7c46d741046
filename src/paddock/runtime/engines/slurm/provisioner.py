"""Members of pools as tasks of Slurm's job arrays (design note 033)."""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paddock.model.errors import InvalidInput
from paddock.runtime.engines.provisioner import Member, MemberState, PoolTemplate, Site
from paddock.runtime.engines.slurm.commands import QueuedTask, SlurmCommands, TaskId, TooManyError
from paddock.runtime.engines.slurm.reasons import Standing, end_of, fetching, standing_of
from paddock.runtime.engines.slurm.requests import MEMBER_PREFIX, TOKEN_VARIABLE, job_environment, script, submission
from paddock.runtime.image_commands import FETCHING, WORKING

LOOK_SECONDS = 1.0
LIVELY_SECONDS = 60.0
QUIET_LOOK_SECONDS = 10.0
"""Each look is a request to the cluster's controller, which all users share: often for a minute after a change, else seldom."""
ARRAY_TASKS_MAX = 500
"""Slurm's `MaxArraySize` is 1001 where nobody changed it."""
OUTPUT_DAYS = 7
"""How long the output of workers that failed is kept."""
_OUTPUT_TAIL_BYTES = 2000
_OUTPUT_CHARACTERS = 500
_HOME_DIGITS = 12


class SlurmProvisioner:
    """Implements `Provisioner`. A member `slurm-1234_5` is task 5 of job 1234; the job's name has the home and the pool.

    Keeps nothing that Slurm does not know, but for what is lost with this process and only makes reasons better: which members it
    has cancelled itself, which were there at the last look, and which have begun to work.
    """

    def __init__(
        self,
        site: Site,
        *,
        environment: Mapping[str, str] | None = None,
        look_seconds: float = LOOK_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """environment: of Slurm's commands and, without what concerns the server alone, of members; None: this process's.

        look_seconds: how old what `members` says may be, shortly after a change. InvalidInput: members are to read and write a store
        that only the server has.
        """
        self._direct = site.settings.slurm_direct
        if self._direct and site.storage is None:
            raise InvalidInput(
                "PADDOCK_SLURM_DIRECT is set, but the home keeps its data on the server's own disk; unset it, or move the data to a"
                " store that nodes reach (`paddock migrate`)"
            )
        self._look_seconds = look_seconds
        self._monotonic = monotonic
        self._members: list[Member] = []
        self._looked = self._changed = -math.inf
        self._prefix = f"paddock-{site.home[:_HOME_DIGITS]}-"
        self._url = site.url
        self._folder = Path(site.settings.slurm_folder).expanduser()
        words = site.settings.slurm_command
        self._command = shlex.split(words) if words else [sys.executable, "-P", "-m", "paddock"]
        self._slurm = SlurmCommands(job_environment(os.environ if environment is None else environment))
        self._cancelled: set[str] = set()
        self._alive: dict[str, str] = {}
        """Pool of each member that had not ended at the last look."""
        self._ends: dict[TaskId, Standing] = {}
        self._working: set[TaskId] = set()
        """Those whose worker has said that it works."""

    def members(self) -> Sequence[Member]:
        now = self._monotonic()
        lively = now - self._changed < LIVELY_SECONDS
        if now - self._looked >= (self._look_seconds if lively else QUIET_LOOK_SECONDS):
            members = self._look()
            if members != self._members:
                self._changed = now
            self._members, self._looked = members, now
        return self._members

    def _look(self) -> list[Member]:
        tasks = {task.id: task for task in self._tasks(self._prefix)}
        members = [self._member(task) for task in tasks.values()]
        seen = {member.name for member in members}
        # Slurm forgets what has ended: after minutes, but some clusters after seconds.
        lost = [Member(name, pool, MemberState.ENDED) for name, pool in self._alive.items() if name not in seen]
        self._alive = {member.name: member.pool for member in members if member.state is not MemberState.ENDED}
        self._cancelled &= seen
        self._ends = {task: standing for task, standing in self._ends.items() if task in tasks}
        self._working &= tasks.keys()
        return [*members, *lost]

    def start(self, template: PoolTemplate, count: int) -> None:
        self._expect_change()
        self._make_folder()
        text = script(template, url=self._url, command=self._command, direct=self._direct)
        name = self._prefix + template.name
        most = ARRAY_TASKS_MAX
        while count > 0:
            size = min(most, count)
            options = submission(template, size, job_name=name, folder=self._folder)
            try:
                self._slurm.submit(options, text, secrets={TOKEN_VARIABLE: template.token})
            except TooManyError:
                # An array is taken whole or not at all, and a user may have room for a part of it.
                if size == 1:
                    raise
                most = size // 2
            else:
                count -= size

    def cancel(self, names: Sequence[str]) -> None:
        self._expect_change()
        self._cancelled.update(names)
        self._slurm.drain([TaskId(name.removeprefix(MEMBER_PREFIX)) for name in names])

    def remove_pool(self, name: str) -> None:
        self._expect_change()
        tasks = self._tasks(self._prefix + name)
        alive = [task.id for task in tasks if standing_of(task.state, "").state is not MemberState.ENDED]
        self._cancelled.update(f"{MEMBER_PREFIX}{task}" for task in alive)
        self._slurm.cancel(alive)

    def close(self) -> None:
        pass

    def _expect_change(self) -> None:
        self._looked, self._changed = -math.inf, self._monotonic()

    def _tasks(self, prefix: str) -> Sequence[QueuedTask]:
        """The queue's tasks whose job's name begins so; without the empty array that is left when all of its tasks were cancelled."""
        return [task for task in self._slurm.queue() if task.name.startswith(prefix) and "_" in task.id]

    def _member(self, task: QueuedTask) -> Member:
        name = f"{MEMBER_PREFIX}{task.id}"
        standing = standing_of(task.state, task.reason)
        if standing.state is MemberState.ENDED:
            standing = self._end(task, name)
        elif task.state == "RUNNING" and task.id not in self._working:
            standing = self._begin(task, standing)
        return Member(name, task.name.removeprefix(self._prefix), *standing)

    def _begin(self, task: QueuedTask, standing: Standing) -> Standing:
        """How far a task is that has begun: it may fetch its image for minutes before it joins, and that is no failed start."""
        said = _last_lines(self._output(task.id)) or [""]
        if said[-1].startswith(FETCHING):
            return fetching(said[-1])
        if any(line.startswith(WORKING) for line in said):
            self._working.add(task.id)
        return standing

    def _output(self, task: TaskId) -> Path:
        return self._folder / f"{task}.log"

    def _end(self, task: QueuedTask, name: str) -> Standing:
        """Why a task ended; looked up once, since it does not change any more."""
        known = self._ends.get(task.id)
        if known is not None:
            return known
        output = self._output(task.id)
        if task.state == "COMPLETED" or name in self._cancelled:
            standing = Standing(MemberState.ENDED)
            output.unlink(missing_ok=True)
        else:
            standing = end_of(task.state, self._slurm.describe(task.id), _last_words(output))
        self._ends[task.id] = standing
        return standing

    def _make_folder(self) -> None:
        """Make the folder for output, and remove from it what is old."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            oldest = time.time() - OUTPUT_DAYS * 24 * 3600
            for path in self._folder.glob("*_*.log"):
                if path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidInput(
                f"the folder {self._folder} for the output of Slurm's workers can't be used ({error.strerror}); name one that the"
                " server and the nodes share in PADDOCK_SLURM_FOLDER"
            ) from error


def _last_words(output: Path) -> str | None:
    """The end of what a member printed, as one line; None where there is no such file here."""
    lines = _last_lines(output)
    return None if lines is None else " / ".join(lines)[-_OUTPUT_CHARACTERS:]


def _last_lines(output: Path) -> Sequence[str] | None:
    try:
        with output.open("rb") as stream:
            stream.seek(max(0, output.stat().st_size - _OUTPUT_TAIL_BYTES))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    return [line.strip() for line in lines if line.strip()][-3:]
