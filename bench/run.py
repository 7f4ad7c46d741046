"""`make bench`: Paddock against peers and floors measured in the same run, as medians of repeats.

Each row works in a temporary folder that is removed after it. A table is printed, and written to
bench/results/latest.json. The exit code is 0 even where a budget is missed: a budget is a goal, and a noisy
machine is no failure.
"""

from __future__ import annotations

import argparse
import compileall
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peers
from measure import Result, Settings
from rows import (
    adding,
    chain,
    cluster,
    commits,
    datums,
    getting,
    large,
    object_store,
    planning,
    records,
    runner,
    scale,
    scale_jobs,
    scheduling,
    start,
    transfer,
    warm,
)

import paddock

RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"

ROWS: dict[str, Callable[[Settings], Result]] = {
    "cli-start": start.cli_start,
    "cp-datums": datums.cp_datums,
    "cp-many": datums.cp_many,
    "cp-again": datums.cp_again,
    "warm-command": warm.warm_command,
    "warm-function": warm.warm_function,
    "runner-datums": runner.started,
    "runner-warm": runner.warm,
    "records-single": records.single_records,
    "records-thousands": records.thousands,
    "add-small": adding.add_small,
    "add-again": adding.add_again,
    "add-large": large.add_large,
    "add-inserted": large.add_inserted,
    "get-small": getting.get_small,
    "get-large": getting.get_large,
    "http-small": transfer.http_small,
    "http-large": transfer.http_large,
    "commit-one": commits.commit_one,
    "s3-put-large": object_store.s3_put_large,
    "s3-get-large": object_store.s3_get_large,
    "s3-put-small": object_store.s3_put_small,
    "s3-get-small": object_store.s3_get_small,
    "plan": planning.plan,
    "plan-change": planning.plan_change,
    "plan-change-join": planning.plan_change_join,
    "plan-change-group": planning.plan_change_group,
    "plan-change-cross": planning.plan_change_cross,
    "five-pipelines": chain.five_pipelines,
    "first-datum": scheduling.first_datum,
    "two-workers": scheduling.two_workers,
    "heavy-tail": scheduling.heavy_tail,
    "network-cp": cluster.network_cp,
    "network-warm": cluster.network_warm,
    "cluster-claims": cluster.claims,
    "cluster-workers": cluster.thousand_workers,
    "cluster-busy": cluster.busy_workers,
    "scale-build": scale.build,
    "scale-put": scale.put,
    "scale-list": scale.list_directory,
    "scale-list-root": scale.list_root,
    "scale-glob": scale.glob_prefix,
    "scale-glob-all": scale.glob_all,
    "scale-diff": scale.diff,
    "scale-find": scale.find,
    "scale-log": scale.log,
    "scale-why": scale.why,
    "scale-gc-dry": scale.collect_dry,
    "scale-gc": scale.collect,
    "scale-fsck": scale.check,
    "scale-du": scale.usage,
    "scale-job": scale_jobs.million_datums,
    "scale-cluster": scale_jobs.simulated_cluster,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, one repeat: a smoke test")
    parser.add_argument("--only", action="append", choices=list(ROWS), help="this row; may be given again")
    parser.add_argument("--repeats", type=int, default=None, help="repeats of each measurement (default 3)")
    parser.add_argument("--work", type=Path, default=None, help="where temporary folders go (default: TMPDIR)")
    parser.add_argument("--shared", type=Path, default=None, help="keep here the homes that are costly to make")
    parser.add_argument("--install-peers", action="store_true", help="let apt-get install peers, as root")
    return parser.parse_args()


def measure(name: str, options: argparse.Namespace, shared: Path) -> Result:
    repeats = options.repeats or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory(prefix=f"paddock-bench-{name}-", dir=options.work) as work:
        return ROWS[name](Settings(quick=options.quick, repeats=repeats, work=Path(work), shared=shared))


def lines_of(result: Result) -> list[str]:
    """The row as the user reads it: Paddock, then each peer with its ratio, then the budgets."""
    spread = f" ({min(result.samples):.3f} to {max(result.samples):.3f})" if len(result.samples) > 1 else ""
    lines = [result.what, f"  {'Paddock':<34} {result.seconds:9.3f} s{spread}"]
    for other, seconds in result.others.items():
        ratio = result.seconds / seconds
        lines.append(f"  {other:<34} {seconds:9.3f} s   Paddock takes {ratio:.2f} x")
    for budget in result.budgets:
        verdict = "met" if budget.met else "MISSED"
        lines.append(f"  {'budget ' + budget.text:<34} {budget.value:9.3f}     {verdict}")
    lines += [f"  {fact:<34} {value:9,.0f}" for fact, value in result.facts.items()]
    lines += [f"  note: {note}" for note in result.notes]
    return lines


def document(results: list[Result], options: argparse.Namespace, seconds: float) -> dict[str, object]:
    return {
        "machine": {
            "cpus": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "quick": options.quick,
        "seconds": seconds,
        "rows": [
            dataclasses.asdict(result)
            | {"budgets": [dataclasses.asdict(budget) | {"met": budget.met} for budget in result.budgets]}
            for result in results
        ],
    }


def main() -> int:
    options = arguments()
    if options.install_peers:
        peers.allow_apt()
    # pip compiles what it installs, but not a checkout; with PYTHONDONTWRITEBYTECODE each process would compile it again.
    compileall.compile_dir(Path(paddock.__file__).parent, quiet=1)
    started = time.monotonic()
    results = []
    with tempfile.TemporaryDirectory(prefix="paddock-bench-shared-", dir=options.work) as temporary:
        shared = options.shared or Path(temporary)
        shared.mkdir(parents=True, exist_ok=True)
        for name in options.only or ROWS:
            result = measure(name, options, shared)
            results.append(result)
            print(f"[{name}]", "\n".join(lines_of(result)), "\n", flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(results, options, time.monotonic() - started), indent=2)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    missed = [f"{result.name}: {b.text}" for result in results for b in result.budgets if not b.met]
    verdict = f"missed: {'; '.join(missed)}" if missed else "every budget met"
    print(f"{len(results)} rows, written to bench/results/latest.json; {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
