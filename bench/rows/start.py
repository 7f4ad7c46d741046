"""How long the command takes to answer the smallest question, against a Python that does nothing."""

from __future__ import annotations

import sys

from measure import PADDOCK, Budget, Result, Settings, median, paddock, run, samples_of


def cli_start(settings: Settings) -> Result:
    home = settings.work / "home"
    paddock(home, "repo", "create", "data")
    repeats = settings.size(15, 5)
    words = [PADDOCK, "--home", str(home), "repo", "list"]
    samples = samples_of(repeats, lambda _: lambda: run(words))
    bare = samples_of(repeats, lambda _: lambda: run([sys.executable, "-c", "pass"]))
    seconds = median(samples)
    return Result(
        name="cli-start",
        what="`paddock repo list` on an embedded home",
        seconds=seconds,
        samples=samples,
        others={"python -c pass": median(bare)},
        budgets=(Budget("< 0.2 s", seconds, 0.2),),
    )
