"""One changed file through five pipelines, one after another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from measure import Budget, Result, Settings, median, samples_of, write_small_files

from paddock.client.embedded import EmbeddedPaddock
from paddock.testing.servers import running_server

PIPELINES = 5
FILE_BYTES = 100


def five_pipelines(settings: Settings) -> Result:
    """Each has a datum for each file, and starts a process for it; a server is up. From the call that commits to the last output."""
    count = settings.size(10_000, 500)
    source = settings.work / "source"
    write_small_files(source, count, FILE_BYTES)
    home = settings.work / "home"
    with EmbeddedPaddock.open(home) as client, running_server(home, workers=2):
        client.repos.create("p0")
        client.files.put_tree("p0@main", source)
        for number in range(1, PIPELINES + 1):
            client.pipelines.apply(spec(number))
        client.jobs.wait([f"p{PIPELINES}@head"])

        def prepare(number: int) -> Callable[[], object]:
            def change() -> None:
                client.files.put("p0@main:/d0000/f0000000", json.dumps(number).encode())
                client.jobs.wait([f"p{PIPELINES}@head"])

            return change

        samples = samples_of(settings.size(9, 3), prepare)
        check(client, count, settings.size(9, 3))
    return Result(
        name="five-pipelines",
        what=f"one changed file through {PIPELINES} chained pipelines of {count:,} datums each, server up",
        seconds=median(samples),
        samples=samples,
        others={},
        budgets=(Budget("< 1 s", median(samples), 1.0),),
    )


def spec(number: int) -> dict[str, Any]:
    """The number is in the command too: equal commands would find each other's results."""
    return {
        "pipeline": {"name": f"p{number}"},
        "transform": {"cmd": ["sh", "-c", f"cp -r /pfs/in/* /pfs/out/  # {number}"]},
        "input": {"pfs": {"name": "in", "repo": f"p{number - 1}", "glob": "/*/*"}},
    }


def check(client: EmbeddedPaddock, count: int, changes: int) -> None:
    """The last output has the last change, and its job ran one datum."""
    (job,) = client.jobs.list(pipeline=f"p{PIPELINES}", limit=1)
    text = b"".join(client.files.read(f"p{PIPELINES}@main:/d0000/f0000000"))
    if (job.datums.total, job.datums.run, text) != (count, 1, b"%d" % (changes - 1)):
        raise SystemExit(f"the change did not come through: {job.datums}, {text!r}")
