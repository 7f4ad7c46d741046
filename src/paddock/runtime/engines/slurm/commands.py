"""Slurm's own commands, which work alike from version 20.11 on, and what their failures mean.

No accounting database is needed: `squeue` also lists jobs that ended in the last minutes (Slurm's `MinJobAge`, 300 s if nobody
changed it), and `scontrol` says why.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import NewType

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput, PaddockError, Unavailable
from paddock.runtime.engines.slurm.reasons import why_waiting

TaskId = NewType("TaskId", str)
"""`1234_5`: task 5 of job array 1234."""

COMMAND_SECONDS = 60.0
IDS_PER_COMMAND = 500
_FIELDS = ("JobArrayID:64", "State:32", "ReasonList:512", "NodeList:256", "Name:256")
_PASSING = re.compile(
    r"contact slurm controller|timed out|connection (refused|failure)|zero bytes|standby mode|transport endpoint|"
    r"configuration source|fetch config|munge|authentication|temporarily|try again|not responding|submit limit|"
    r"unable to (connect|resolve)|job queue is full|being configured|state is being",
    re.IGNORECASE,
)
"""Messages of failures that have nothing to do with what was asked for."""
_LIMIT = re.compile(r"\b(QOS|Assoc)(Max|Min|Grp)\w+")
"""Beside it stands the same sentence for limits that pass and for those that don't."""
_CLOSED = "partition not available"
"""Of a partition that is drained or inactive; it may be open again in a minute."""
_FIELD_OF = (
    (r"account", "slurm.account"),
    (r"partition", "slurm.partition"),
    (r"qos", "slurm.qos"),
    (r"reservation", "slurm.options (--reservation)"),
    (r"time limit|--time\b|wall", "slurm.time_limit"),
    (r"feature|constraint", "slurm.constraint"),
    (r"gres|generic resource|gpu", "slurm.gres or resource_requests.gpu"),
    (r"unrecognized option|invalid option|node (name|count)|licen[sc]e", "slurm.options"),
    (r"memory", "resource_requests.memory"),
    (r"cpu|processor|node configuration", "resource_requests"),
)
"""What a refusal speaks of, first match first, and the field of the spec that says it."""


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """One line of the queue. state: Slurm's word. reason: why it is not running; empty where it runs, or nobody says."""

    id: TaskId
    state: str
    reason: str
    name: str


class TooManyError(Unavailable):
    """So many tasks may not be submitted now; fewer perhaps."""


class SlurmCommands:
    """Runs `sbatch`, `squeue`, `scontrol` and `scancel` of the server's PATH. Each call takes 10 ms to seconds.

    All raise Unavailable where a command is missing, or its controller can't be reached.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def submit(self, options: Sequence[str], script: str, *, secrets: Mapping[str, str]) -> str:
        """Submit a job array; its number. secrets: variables for the job's environment.

        InvalidInput: Slurm refuses what the options ask for. TooManyError: it refuses the number of tasks. Nothing was submitted then, nor after Unavailable but where the
        answer was late: then it may have been, and shows in `queue`.
        """
        ran = self._run(["sbatch", "--parsable", *options], stdin=script, more=secrets)
        if ran.returncode != 0:
            raise _refusal(ran.stderr)
        return ran.stdout.strip().partition(";")[0]

    def queue(self) -> Sequence[QueuedTask]:
        """This user's jobs, those too that ended lately; each task of an array by itself."""
        fields = ",".join(f"{each}|" for each in _FIELDS)
        words = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--Format={fields}"]
        return [_task(line) for line in self._sure(words).splitlines() if line.strip()]

    def describe(self, task: TaskId) -> Mapping[str, str]:
        """All that the controller knows of one task, by Slurm's names of it; empty where it has forgotten it."""
        ran = self._run(["scontrol", "--oneliner", "show", "job", task])
        if ran.returncode != 0 and "Invalid job id" not in ran.stderr:
            raise _unreachable(ran.stderr)
        return dict(re.findall(r"(?:^| )([A-Za-z/:]+)=(\S*)", ran.stdout))

    def cancel(self, tasks: Sequence[TaskId]) -> None:
        """End tasks at once, and all their processes; those that have ended already are no error."""
        self._cancel([], tasks)

    def drain(self, tasks: Sequence[TaskId]) -> None:
        """Take tasks that wait out of the queue; those that run get SIGTERM, and of them only the first process."""
        self._cancel(["--state=PENDING"], tasks)
        self._cancel(["--state=RUNNING", "--batch", "--signal=TERM"], tasks)

    def _cancel(self, options: Sequence[str], tasks: Sequence[TaskId]) -> None:
        for first in range(0, len(tasks), IDS_PER_COMMAND):
            ran = self._run(["scancel", "--quiet", *options, *tasks[first : first + IDS_PER_COMMAND]])
            if ran.returncode != 0 and _PASSING.search(ran.stderr):
                raise _unreachable(ran.stderr)

    def _sure(self, words: Sequence[str]) -> str:
        ran = self._run(words)
        if ran.returncode != 0:
            raise _unreachable(ran.stderr)
        return ran.stdout

    def _run(
        self, words: Sequence[str], *, stdin: str = "", more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                words,
                env={**self._environment, **(more or {})},
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise Unavailable(
                f"there is no {words[0]} on the server's PATH; install Slurm's commands (Debian: slurm-client) where `paddock up`"
                " runs, and its slurm.conf"
            ) from None
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"{words[0]} has not answered for {COMMAND_SECONDS:.0f} s; Slurm's controller seems to be overloaded or away"
            ) from None
        except OSError as error:
            raise Unavailable(f"{words[0]} can't be run: {error.strerror}; it is tried again") from error


def _task(line: str) -> QueuedTask:
    name, state, reason, nodes, job = (each.strip() for each in line.split("|", 4))
    reason = reason.removeprefix("(").removesuffix(")")
    return QueuedTask(TaskId(name), state, "" if reason in (nodes, "None") else reason, job.removesuffix("|").rstrip())


def _refusal(message: str) -> PaddockError:
    said = _said(message)
    limit = _LIMIT.search(said)
    if limit is not None:
        why, passing = why_waiting(limit[0])
        error = (TooManyError if "Submit" in limit[0] else Unavailable) if passing else InvalidInput
        return error(f"Slurm takes no workers: {why} (Slurm: {limit[0]})")
    if _CLOSED in said:
        return Unavailable(f"Slurm takes no workers: {why_waiting('PartitionInactive')[0]} (Slurm: {said})")
    if _PASSING.search(said):
        return _unreachable(message)
    field = next((field for pattern, field in _FIELD_OF if re.search(pattern, said, re.IGNORECASE)), "slurm")
    return InvalidInput(f"Slurm refuses the workers: {said}; change {field} in the spec")


def _unreachable(message: str) -> Unavailable:
    return Unavailable(f"Slurm does not take commands now: {_said(message)}; it is tried again")


def _said(message: str) -> str:
    """What a command wrote to its standard error, as one line without the parts that say nothing."""
    lines = (re.sub(r"^\w+: (error: |fatal: )?", "", line).strip() for line in message.splitlines())
    return ": ".join(
        line.removeprefix("Batch job submission failed: ") for line in lines if line and "--help" not in line
    )
