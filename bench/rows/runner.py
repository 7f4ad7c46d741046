"""Datums whose commands a runner starts, as in a pod, beside datums of a worker that starts them itself."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measure import Budget, Result, Settings, median, rounds_of

from paddock.runtime.protocol import TransformTask
from paddock.runtime.runner_link import connect_runner
from paddock.testing.containers import build_runner, compiler, running_runner
from paddock.testing.workers import WorkerHarness, input_of

RATIO_MAX = 2.0
MEMORY = "/dev/shm"
SERVE = """
import json, os
for line in os.fdopen(3, "rb"):
    datum = json.loads(line)
    with open(datum["in"], "rb") as source, open(datum["out"] + "/result", "wb") as target:
        target.write(source.read())
    os.write(4, json.dumps({"id": datum["id"], "ok": True}).encode() + b"\\n")
"""
COPY = TransformTask(
    id="copy", project="default", pipeline="bench", cmd=("/bin/cp", "{in}", "{out}/result"), placeholders=True
)


def started(settings: Settings) -> Result:
    return _measure(settings, "runner-datums", "datums of `cp`, each started by a runner", COPY)


def warm(settings: Settings) -> Result:
    script = settings.work / "serve.py"
    script.write_text(SERVE, encoding="utf-8")
    task = TransformTask(
        id="warm", project="default", pipeline="bench", cmd=(sys.executable, "-S", "-E", str(script)), warm=True
    )
    return _measure(settings, "runner-warm", "datums of a warm command, which a runner has started", task)


def _measure(settings: Settings, name: str, what: str, task: TransformTask) -> Result:
    count = settings.size(1000, 100)
    if compiler() is None:
        return Result(name, what, 0.0, (), {}, (), notes=("left out: no C compiler to build the runner with",))
    with ExitStack() as stack, tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        memory = Path(folder)
        workers = {
            "runner": stack.enter_context(_beside_a_runner(settings.work, memory)),
            "runner on disk": stack.enter_context(_beside_a_runner(settings.work, settings.work)),
            "local": stack.enter_context(WorkerHarness(_folder(settings.work / "local"))),
            "local on disk": stack.enter_context(WorkerHarness(_folder(settings.work / "disk"), sandbox="directory")),
        }

        def contender(worker: WorkerHarness) -> Callable[[int], Callable[[], object]]:
            def prepare(number: int) -> Callable[[], object]:
                files = worker.store_many({f"/{number}-{each}": b"%d" % each for each in range(count)})
                datums = [worker.datum(input_of("in", file.path, file)) for file in files]
                return lambda: worker.run(task, datums)

            return prepare

        samples = rounds_of(settings.repeats + 1, {name: contender(worker) for name, worker in workers.items()})
    # The first round is for warming up.
    seconds = {name: median(each[1:]) for name, each in samples.items()}
    return Result(
        name,
        f"{count} {what}, with /pfs in memory",
        seconds["runner"],
        samples["runner"][1:],
        {
            "the local engine, in memory": seconds["local"],
            "a runner, /pfs on disk": seconds["runner on disk"],
            "the local engine, on disk": seconds["local on disk"],
        },
        (
            Budget(f"{RATIO_MAX:g} x the local engine", seconds["runner"] / seconds["local"], RATIO_MAX),
            Budget(f"{RATIO_MAX:g} x it on disk", seconds["runner on disk"] / seconds["local on disk"], RATIO_MAX),
        ),
    )


@contextmanager
def _beside_a_runner(work: Path, volumes: Path) -> Iterator[WorkerHarness]:
    """volumes: where the folders of both are."""
    name = volumes.name
    program = build_runner(work / f"runner-{name}")
    with running_runner(program, _folder(volumes / "pod")) as place, connect_runner(place.socket_path) as link:
        options = place.worker_options(link)
        with WorkerHarness(_folder(work / f"beside-{name}"), options=options, pass_fds=[link.fileno()]) as worker:
            yield worker


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
