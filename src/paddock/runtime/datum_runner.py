"""Run one datum: inputs in place, the command with its tries, `err_cmd`, outputs collected."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from paddock.model.dataclass import dataclass
from paddock.model.errors import PaddockError
from paddock.model.ids import Digest
from paddock.model.records import DatumState, Location
from paddock.runtime.batch_format import DatumOutcome, OutputFile
from paddock.runtime.collect import (
    ChunkSink,
    Collector,
    OutputError,
    clear_files,
    clear_folder,
    disk_full_error,
    disk_is_full,
)
from paddock.runtime.commands import CannotStart, Commands, Workplace
from paddock.runtime.datum_folders import DatumFolders, SizeHistory
from paddock.runtime.laps import CODE, INPUT, OUTPUT, REPORT, START, Laps
from paddock.runtime.limits import LimitWatch
from paddock.runtime.materialize import ENVIRONMENT_FILE, OUT_FOLDER
from paddock.runtime.process import Exit, ProcessRunner
from paddock.runtime.process_memory import MemoryGroup
from paddock.runtime.protocol import BatchTask, DatumTask, TransformTask
from paddock.runtime.warm_format import task_line
from paddock.runtime.warm_frames import (
    FRAME_BYTES_MAX,
    FRAME_DATUMS_MAX,
    FrameAnswer,
    content_bytes,
    frame_answers,
    frame_task,
    store_files,
)
from paddock.runtime.warm_process import Answer, Frame, Misspoke, WarmProcess
from paddock.runtime.worker_environment import (
    base_environment,
    datum_environment,
    encoded,
    environment_file,
    expand,
    gpu_environment,
    spec_environment,
    working_directory,
)
from paddock.runtime.worker_logs import DatumLog
from paddock.storage.os_errors import translate

_LAST_LINE_MAX = 200
_ERROR_MAX = 2000
_KILLS_SECONDS = 1.0
_TERMINATED = (-signal.SIGTERM, 128 + signal.SIGTERM)
_SAME_HAND_SECONDS = 0.1
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""How a command ends that is killed, or a shell whose last command was."""
_FRAME_SECONDS = 0.05
"""A frame holds so many datums that it takes about this long: cheap for small ones, and soon over when cancelled."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a worker runs datums. host_pfs: the directory by the path where the worker writes.

    pfs: how user code knows it (`/pfs` with namespaces, else the same). isolated: with namespaces of its own.
    memory: with a file system in memory for small datums.
    number: of the worker, to give neighbours different CPUs.
    """

    scratch: Path
    host_pfs: str
    pfs: str
    isolated: bool
    memory: bool = False
    number: int = 0
    group_name: str = ""
    """Names the slot's memory cgroup; empty for none."""
    shared: Path | None = None
    """Where commands run in a container, as another user: a folder that both have under this path, for `TMPDIR`."""
    cpus: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))

    @property
    def out(self) -> str:
        """Where commands leave results; this process may write there by the same path, which is the shortest."""
        return f"{self.pfs}/{OUT_FOLDER}"

    @property
    def temporary(self) -> Path:
        """Where `TMPDIR` is for datums whose scratch is limited."""
        return self.scratch / "tmp" if self.shared is None else self.shared / "scratch"

    @property
    def open_mode(self) -> int:
        """The mode of directories where commands write."""
        return 0o755 if self.shared is None else 0o777

    def memory_group(self) -> MemoryGroup | None:
        """The cgroup in which the kernel counts the memory of this slot's commands; None where the system gives none."""
        return MemoryGroup.make(self.group_name) if self.group_name else None

    def cpus_for(self, most: int | None) -> Sequence[int]:
        """The CPUs for a command that may use `most` of them: with as many for each worker, side by side."""
        if most is None or most >= len(self.cpus):
            return self.cpus
        return [self.cpus[(self.number * most + index) % len(self.cpus)] for index in range(most)]


@dataclass(slots=True)
class Transform:
    """A transform made ready on this worker: environment, where its commands run, standard inputs."""

    task: TransformTask
    environment: dict[bytes, bytes]
    spec_environment: dict[bytes, bytes]
    place: Workplace
    stdin: int | None
    err_stdin: int | None
    sizes: SizeHistory
    limits_scratch: bool = False
    watch: LimitWatch | None = None


def prepare_transform(task: TransformTask, slot: Slot, commands: Commands) -> Transform:
    """Do once what is the same for all datums. LimitExceeded: the scratch disk is full."""
    cwd = working_directory(task, slot.pfs, commands.cwd)
    environment = base_environment(commands.environment, task, slot.pfs)
    environment[b"PWD"] = os.fsencode(cwd)
    limits_scratch = any(each.kind in ("scratch", "disk") for each in task.limits)
    if limits_scratch:
        slot.temporary.mkdir(exist_ok=True)
        slot.temporary.chmod(slot.open_mode)
        environment[b"TMPDIR"] = os.fsencode(slot.temporary)
    return Transform(
        task,
        environment,
        spec_environment(task),
        Workplace(cwd, task.user),
        _stdin_file(slot.scratch / "stdin", task.stdin),
        _stdin_file(slot.scratch / "stdin", task.err_stdin),
        SizeHistory.of(task),
        limits_scratch,
        LimitWatch(
            task.limits,
            out=slot.out,
            scratch=str(slot.temporary),
            group=slot.memory_group(),
            memory_bytes=commands.memory_bytes,
        )
        if task.limits
        else None,
    )


class ReportLostError(Exception):
    """The store refused an output: the pack at work is of no more use, so neither is what was to be reported with it."""

    def __init__(self, cause: PaddockError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Starved:
    """The kernel ended a datum's command for want of memory while others ran: it is to run again with nothing beside it."""


@dataclass(slots=True)
class _Attempts:
    """What the tries of one datum have come to so far. finished: no further try would help."""

    log: DatumLog
    tries: int = 0
    exit_code: int | None = None
    reason: str = ""
    error_code: str = ""
    succeeded: bool = False
    recovered: bool = False
    starved: bool = False
    last: bool = False
    """No further try would help, once `err_cmd` has run."""
    finished: bool = False
    files: tuple[OutputFile, ...] = ()


class DatumRunner:
    """Runs the datums of one slot, one after another. Not thread-safe."""

    def __init__(
        self,
        slot: Slot,
        commands: Commands,
        processes: ProcessRunner,
        warm: WarmProcess,
        read_chunk: Callable[[Digest, Location], bytes],
        *,
        laps: Laps,
        tick: Callable[[], object],
        interrupted: Callable[[], bool],
    ) -> None:
        """interrupted: whether something from outside ends the processes of this worker."""
        self._laps = laps
        self._interrupted = interrupted
        self._slot = slot
        self._out = slot.out
        self._commands = commands
        self._processes = processes
        self._warm = warm
        self._warm_transform = ""
        self._gpus: tuple[str, ...] = ()
        self.log: DatumLog | None = None
        """What the datum at work has printed, or the last one did."""
        self.lost = False
        """The container of the commands is gone: no datum can be run any more."""
        self._frame_datums = 1
        self._read_chunk = read_chunk
        self._collector = Collector(slot.pfs, tick, commands.settle_out)
        self._folders = DatumFolders(
            slot.scratch, slot.host_pfs, read_chunk, protected=slot.isolated, memory=slot.memory, tick=tick
        )
        self._dirty = False
        self._plain: Sequence[str] | None = None
        """The names of all that is in `/pfs/out`, where that is known."""
        self._cpus: Sequence[int] = slot.cpus
        self._kills, self._kills_noted = 0, -math.inf

    def run_from(
        self,
        batch: BatchTask,
        position: int,
        transform: Transform,
        sink: ChunkSink,
        *,
        end: Callable[[], int],
    ) -> Iterator[DatumOutcome | Starved]:
        """Run datums of the batch in order, from `position` on up to `end()`, which is asked before each step.

        Ends early where a datum was cancelled. Errors as `run`.
        """
        if batch.gpus != self._gpus:
            self.end_warm()
            self._gpus = batch.gpus
        while position < (limit := end()):
            # What runs alone goes by a line, so that its end can be told from that of others.
            count = 0 if batch.alone else self._frame_count(batch, position, limit, transform.task)
            outcomes: Sequence[DatumOutcome | Starved | None]
            if count:
                outcomes = self._run_frame(batch, batch.datums[position : position + count], transform, sink)
            else:
                outcomes = (self.run(batch, batch.datums[position], transform, sink),)
            for outcome in outcomes:
                if outcome is None:
                    return
                position += 1
                yield outcome

    def run(
        self,
        batch: BatchTask,
        datum: DatumTask,
        transform: Transform,
        sink: ChunkSink,
        attempts: _Attempts | None = None,
    ) -> DatumOutcome | Starved | None:
        """Run one datum to its end; None if it was cancelled. `/pfs/out` is empty before and after.

        attempts: those that were made already. Every failure of user code, of inputs or of the scratch disk becomes the outcome's reason. ReportLostError: an
        output could not be stored. What the control channel raises passes through; the worker must end then.
        """
        self._laps.lap(REPORT)
        begin = time.monotonic()
        self._note_kills(begin)
        attempts = attempts or _Attempts(DatumLog())
        self.log = attempts.log
        try:
            self._clear_out()
            if self._warm_transform not in ("", transform.task.id):
                self.end_warm()
            self._folders.use(memory=transform.sizes.suits_memory(datum))
            self._use_cpus(transform.task)
            self._dirty = True
            cancelled = not self._try_all(batch, datum, transform, sink, attempts)
            self._clear_out()
            if transform.limits_scratch:
                self._commands.settle_scratch()
                clear_folder(str(self._slot.temporary), mode=self._slot.open_mode)
            self._laps.lap(OUTPUT)
        except PaddockError as error:
            cancelled = False
            attempts.succeeded = attempts.recovered = False
            attempts.reason, attempts.error_code = str(error), error.code
            self._folders.inputs.clear()
        if cancelled:
            return None
        if attempts.starved:
            return Starved()
        outcome = _outcome(datum, attempts, time.monotonic() - begin)
        transform.sizes.note(outcome)
        return outcome

    def _note_kills(self, now: float) -> None:
        """Know how often the kernel has ended something for want of memory, as of a second ago at most."""
        if now - self._kills_noted >= _KILLS_SECONDS:
            self._kills, self._kills_noted = self._commands.oom_kills(), now

    def _was_starved(self, ended: Exit) -> bool:
        """Whether the kernel has ended something since the datum began, which may be why this try failed."""
        kills = self._commands.oom_kills()
        killed, self._kills = kills > self._kills, kills
        return killed and not (ended.breach or ended.timed_out or ended.cancelled)

    def _was_interrupted(self, ended: Exit) -> bool:
        """Whether a command failed that was ended together with everything else here, most likely."""
        if ended.code == 0 or ended.timed_out or ended.breach or ended.lost:
            return False
        if ended.code in _TERMINATED and not self._interrupted():
            # This process may get the same signal a moment later.
            time.sleep(_SAME_HAND_SECONDS)
        return self._interrupted()

    def _use_cpus(self, task: TransformTask) -> None:
        """Run this process, and so the commands that it starts, on as many CPUs as the transform may use."""
        cpus = self._slot.cpus_for(task.cpus_max)
        if cpus != self._cpus:
            os.sched_setaffinity(0, cpus)
            self._cpus = cpus

    def idle_container_has_ended(self) -> bool:
        """Whether the container is gone, where something came from it while no datum was at work.

        It may have been the end of a warm process; if it was the end of both, this is to be asked again.
        """
        self.lost = not self._warm.look()
        return self.lost

    def end_warm(self) -> None:
        """End the warm process, if there is one, in good order."""
        self._warm.end()
        self._warm_transform = ""

    def _clear_out(self) -> None:
        """Empty `/pfs/out` if a datum has run since it was last emptied."""
        if self._dirty and not (self._plain is not None and self._remove(self._plain)):
            self._empty_out()
        self._dirty = False
        self._plain = None

    def _remove(self, names: Sequence[str]) -> bool:
        """Remove just these files from `/pfs/out`; False where the command has closed that to this process."""
        try:
            clear_files(self._out, names, mode=self._slot.open_mode)
        except PaddockError:
            return False
        return True

    def _empty_out(self) -> None:
        self._commands.settle_out()
        clear_folder(self._out, mode=self._slot.open_mode)

    def _try_all(
        self, batch: BatchTask, datum: DatumTask, transform: Transform, sink: ChunkSink, attempts: _Attempts
    ) -> bool:
        """Whether the datum came to an end; False if it was cancelled."""
        task = transform.task
        line = task_line(batch, datum, self._slot.pfs) if task.warm else b""
        variables: dict[bytes, bytes] = {}
        environment = transform.environment
        if not task.warm or task.err_cmd:
            variables = datum_environment(batch, datum, self._slot.pfs) | transform.spec_environment
            environment = environment | variables

        self._lay_out(transform, datum, variables)
        begun = False
        while not attempts.finished:
            attempts.tries += 1
            if attempts.tries > 1:
                attempts.log.say(f"try {attempts.tries} of {task.datum_tries}")
            if begun:
                self._empty_out()
                if self._folders.use(memory=False) or not self._slot.isolated:
                    self._lay_out(transform, datum, variables)
            begun = True
            self._laps.lap(INPUT)
            ended: Exit | CannotStart | Answer | Misspoke
            if task.warm:
                ended = self._ask(transform, datum, line, attempts.log)
                self._laps.until(self._warm.started_at, START)
            else:
                ended = self._start(transform, task.cmd, transform.stdin, datum, environment, attempts.log)
                self._laps.until(self._processes.started_at, START)
            self._laps.lap(CODE)
            if isinstance(ended, Exit) and (ended.cancelled or self._was_interrupted(ended)):
                return False
            if isinstance(ended, (Exit, CannotStart)) and ended.lost:
                return self._lose(ended, batch, attempts)
            if self._folders.in_memory and disk_is_full(self._out):
                attempts.log.say("it needs more room than there is in memory, so it runs again on disk")
                transform.sizes.outgrow()
                attempts.tries -= 1
                continue
            self._judge(ended, transform, sink, attempts)
            self._laps.lap(OUTPUT)
            if attempts.succeeded:
                return True
            if isinstance(ended, Exit):
                self._suspect_hunger(ended, batch, task, attempts)
            if attempts.finished or attempts.starved:
                return True
            attempts.log.say(attempts.reason)
            if task.err_cmd and not self._handle_error(datum, transform, environment, attempts):
                return False
            attempts.finished = attempts.last or attempts.tries >= task.datum_tries
        return True

    def _suspect_hunger(self, ended: Exit, batch: BatchTask, task: TransformTask, attempts: _Attempts) -> None:
        """Whether a try failed for want of the machine's memory: then it is no try, if others ran beside it."""
        last = attempts.tries >= task.datum_tries
        if (last or ended.code in _KILLED) and self._was_starved(ended):
            attempts.starved, attempts.last = not batch.alone, True
            attempts.reason = (
                f"the machine has too little memory for it, with nothing else beside it: {attempts.reason}"
            )

    def _lose(self, ended: Exit | CannotStart, batch: BatchTask, attempts: _Attempts) -> bool:
        """The container is gone. If it went while a command ran, that may have been the reason: with `alone` not for the first time."""
        self.lost = attempts.last = True
        if isinstance(ended, CannotStart):
            return False
        attempts.exit_code, attempts.starved = None, not batch.alone
        attempts.reason = (
            "the container of the command ended while it ran, and not for the first time: it probably wanted more memory "
            "than resource_limits.memory gives it; raise that, or have it use less"
        )
        return True

    def _lay_out(self, transform: Transform, datum: DatumTask, variables: Mapping[bytes, bytes]) -> None:
        """Put code and inputs in place, and the variables, if the command is to find them."""
        self._folders.code.place(transform.task.id, transform.task.code)
        if variables:
            self._write_environment(variables)
        self._folders.inputs.place(datum.inputs)

    def _judge(
        self,
        ended: Exit | CannotStart | Answer | Misspoke,
        transform: Transform,
        sink: ChunkSink,
        attempts: _Attempts,
    ) -> None:
        """What one try came to; collects the outputs of one that went well."""
        if isinstance(ended, (Answer, Misspoke)):
            self._judge_answer(ended, transform, sink, attempts)
            return
        if isinstance(ended, CannotStart):
            attempts.exit_code, attempts.reason, attempts.finished = None, ended.reason, True
            return
        attempts.exit_code = ended.code
        if ended.breach:
            # A fresh warm process may do with less; a command that is started anew will not.
            attempts.reason, attempts.last = ended.breach, not transform.task.warm
        elif ended.timed_out:
            limit = transform.task.datum_timeout_seconds or 0.0
            attempts.reason = f"the command was stopped after {limit:g} s ({transform.task.timeout_field})"
        elif transform.task.warm:
            attempts.reason = (
                f"the warm command {_how_it_ended(ended.code)} before it answered{_last_words(attempts.log)}"
            )
        elif ended.code == 0 or ended.code in transform.task.accept_return_code:
            self._collect(transform, sink, attempts)
        elif disk_is_full(self._out):
            # The command failed because it could not write; that is not its fault, so no try is spent on it.
            raise disk_full_error(self._slot.host_pfs)
        else:
            attempts.reason = f"the command {_how_it_ended(ended.code)}{_last_words(attempts.log)}"

    def _judge_answer(
        self, answer: Answer | Misspoke, transform: Transform, sink: ChunkSink, attempts: _Attempts
    ) -> None:
        if isinstance(answer, Misspoke):
            attempts.exit_code, attempts.reason = None, answer.reason
        elif not answer.error:
            attempts.exit_code = 0
            self._collect(transform, sink, attempts)
        elif disk_is_full(self._out):
            raise disk_full_error(self._slot.host_pfs)
        else:
            attempts.exit_code, attempts.reason = 1, answer.error[:_ERROR_MAX]

    def _ask(
        self, transform: Transform, datum: DatumTask, line: bytes, log: DatumLog
    ) -> Exit | CannotStart | Answer | Misspoke:
        """Let the warm process do one datum; it is started where none runs, and ended where it has reached a limit."""
        task = transform.task
        if not self._warm.running:
            environment = transform.environment | encoded(gpu_environment(self._gpus)) | transform.spec_environment
            words = self._words(transform, task.cmd, datum)
            refused = self._warm.start(
                words, environment, transform.place, stdin=transform.stdin, watch=transform.watch
            )
            if refused is not None:
                return refused
            self._warm_transform = task.id
            self._frame_datums = 1
        answer = self._warm.ask(line, id=datum.id, timeout_seconds=task.datum_timeout_seconds, log=log)
        self._recycle(task)
        return answer

    def _recycle(self, task: TransformTask) -> None:
        """End a warm process that has reached a limit."""
        if (task.warm_datums_max is not None and self._warm.datums >= task.warm_datums_max) or (
            task.warm_memory_bytes is not None and self._warm.memory_exceeds(task.warm_memory_bytes)
        ):
            self.end_warm()

    # ---- frames --------------------------------------------------------------------------------------------

    def _frame_count(self, batch: BatchTask, position: int, limit: int, task: TransformTask) -> int:
        """How many datums the next frame holds, from `position` on and before `limit`; 0: the first of them goes by a line."""
        warm = self._warm
        if not task.warm or task.err_cmd or self._warm_transform != task.id or not warm.takes_frames:
            return 0
        most = self._frame_datums
        if task.warm_datums_max is not None:
            most = min(most, task.warm_datums_max - warm.datums)
        count = size = 0
        for datum in batch.datums[position : min(limit, position + most)]:
            size += content_bytes(datum)
            if size > FRAME_BYTES_MAX:
                break
            count += 1
        return count

    def _run_frame(
        self, batch: BatchTask, datums: Sequence[DatumTask], transform: Transform, sink: ChunkSink
    ) -> Sequence[DatumOutcome | Starved | None]:
        """Run datums in one exchange; those of a frame that went wrong, and those that failed, go by a line again."""
        self._laps.lap(REPORT)
        begin = time.monotonic()
        try:
            task = frame_task(datums, self._read_chunk)
        except PaddockError:
            return self._run_lines(batch, datums, transform, sink)
        self._laps.lap(INPUT)
        log = DatumLog()
        frame = self._warm.ask_frame(task, len(datums), timeout_seconds=transform.task.datum_timeout_seconds, log=log)
        self._laps.lap(CODE)
        if isinstance(frame, Exit) and frame.cancelled:
            return (None,)
        if isinstance(frame, Exit) and frame.lost:
            self.lost = True
            return [Starved()] * len(datums)
        answers = frame_answers(frame, datums) if isinstance(frame, Frame) else ""
        if isinstance(answers, str):
            if answers:
                self._warm.kill()
            self._frame_datums = 1
            return self._run_lines(batch, datums, transform, sink)
        seconds = time.monotonic() - begin
        # What the process says it took: waiting for a busy processor is no reason for smaller frames.
        said = [answer.seconds for answer in answers if answer.seconds is not None]
        work = sum(said) if len(said) == len(answers) else seconds
        if work < _FRAME_SECONDS / 2:
            self._frame_datums = min(self._frame_datums * 2, FRAME_DATUMS_MAX)
        elif work > _FRAME_SECONDS:
            self._frame_datums = max(1, self._frame_datums // 2)
        self._recycle(transform.task)
        share = seconds / len(datums)
        outcomes = [
            self._frame_outcome(batch, datum, answer, share, transform, sink)
            for datum, answer in zip(datums, answers, strict=True)
        ]
        self._laps.lap(OUTPUT)
        return outcomes

    def _run_lines(
        self, batch: BatchTask, datums: Sequence[DatumTask], transform: Transform, sink: ChunkSink
    ) -> Sequence[DatumOutcome | Starved | None]:
        outcomes: list[DatumOutcome | Starved | None] = []
        for datum in datums:
            outcomes.append(self.run(batch, datum, transform, sink))
            if outcomes[-1] is None:
                break
        return outcomes

    def _frame_outcome(
        self,
        batch: BatchTask,
        datum: DatumTask,
        answer: FrameAnswer,
        share: float,
        transform: Transform,
        sink: ChunkSink,
    ) -> DatumOutcome | Starved | None:
        attempts = _Attempts(DatumLog(), tries=1, exit_code=0)
        if answer.log:
            attempts.log.add(answer.log)
        if answer.error:
            attempts.exit_code, attempts.reason = 1, answer.error[:_ERROR_MAX]
        else:
            self._store(answer, transform, sink, attempts)
        if not attempts.succeeded:
            attempts.log.say(attempts.reason)
            if transform.task.datum_tries > 1:
                return self.run(batch, datum, transform, sink, attempts)
        return _outcome(datum, attempts, share if answer.seconds is None else answer.seconds)

    def _store(self, answer: FrameAnswer, transform: Transform, sink: ChunkSink, attempts: _Attempts) -> None:
        try:
            self._take_files(store_files(answer.files, sink), transform, attempts)
        except OutputError as error:
            attempts.reason = str(error)
        except PaddockError as error:
            raise ReportLostError(error) from error

    def _collect(self, transform: Transform, sink: ChunkSink, attempts: _Attempts) -> None:
        try:
            files = self._collector.collect(self._folders.inputs.present, sink)
            self._plain = self._collector.plain
            self._take_files(tuple(files), transform, attempts)
        except OutputError as error:
            attempts.reason = str(error)
        except PaddockError as error:
            raise ReportLostError(error) from error

    def _take_files(self, files: tuple[OutputFile, ...], transform: Transform, attempts: _Attempts) -> None:
        attempts.reason = transform.watch.over_output(files) if transform.watch is not None else ""
        attempts.succeeded = not attempts.reason
        attempts.files = files

    def _handle_error(
        self, datum: DatumTask, transform: Transform, environment: Mapping[bytes, bytes], attempts: _Attempts
    ) -> bool:
        """Run err_cmd after a try that failed; False if it was cancelled."""
        self.end_warm()  # Running a command ends whatever else runs.
        ended = self._start(transform, transform.task.err_cmd, transform.err_stdin, datum, environment, attempts.log)
        self._laps.until(self._processes.started_at, START)
        self._laps.lap(CODE)
        match ended:
            case CannotStart(lost=True) | Exit(lost=True):
                self.lost = True
                return False
            case CannotStart():
                attempts.reason = f"{attempts.reason}; err_cmd: {ended.reason}"
            case Exit(cancelled=True):
                return False
            case Exit(code=0, timed_out=False):
                attempts.recovered = True
            case Exit():
                attempts.log.say(f"err_cmd {_how_it_ended(ended.code)}")
        return True

    def _start(
        self,
        transform: Transform,
        cmd: Sequence[str],
        stdin: int | None,
        datum: DatumTask,
        environment: Mapping[bytes, bytes],
        log: DatumLog,
    ) -> Exit | CannotStart:
        return self._processes.run(
            self._words(transform, cmd, datum),
            environment,
            transform.place,
            stdin=stdin,
            timeout_seconds=transform.task.datum_timeout_seconds,
            log=log,
            watch=transform.watch,
        )

    def _words(self, transform: Transform, cmd: Sequence[str], datum: DatumTask) -> Sequence[str]:
        if not transform.task.placeholders:
            return cmd
        return expand(cmd, datum, self._slot.pfs, self._commands.python)

    def _write_environment(self, variables: Mapping[bytes, bytes]) -> None:
        path = f"{self._slot.host_pfs}/{ENVIRONMENT_FILE}"
        try:
            # Not O_TRUNC: ext4 writes a file that was cut to nothing back to disk when it is closed.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.ftruncate(descriptor, os.write(descriptor, environment_file(variables)))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise translate(error, "write", path) from error


def _outcome(datum: DatumTask, attempts: _Attempts, seconds: float) -> DatumOutcome:
    state = DatumState.FAILED
    if attempts.succeeded:
        state = DatumState.SUCCESS
    elif attempts.recovered:
        state = DatumState.RECOVERED
    return DatumOutcome(
        datum.id,
        datum.key,
        state,
        attempts.exit_code,
        "" if attempts.succeeded else attempts.reason,
        attempts.error_code,
        attempts.tries,
        seconds,
        attempts.files if attempts.succeeded else (),
        attempts.log.content(),
    )


def _stdin_file(path: Path, lines: Sequence[str] | None) -> int | None:
    """A descriptor to read the lines from, each with its newline; the file itself has no name any more."""
    if not lines:
        return None
    try:
        path.write_bytes(os.fsencode("".join(f"{line}\n" for line in lines)))
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        path.unlink()
    except OSError as error:
        raise translate(error, "write", path) from error
    return descriptor


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often for want of memory)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"


def _last_words(log: DatumLog) -> str:
    """The last line that the command printed, which mostly says why it failed."""
    lines = log.last_line().decode("utf-8", "replace").strip()
    if not lines:
        return " and printed nothing"
    shortened = lines if len(lines) <= _LAST_LINE_MAX else lines[:_LAST_LINE_MAX] + "…"
    return f": {shortened}"
