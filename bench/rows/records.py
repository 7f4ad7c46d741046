"""A CSV file of many records, cut into datums by `split`: the first run, and the run after 1,000 records were appended."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from measure import PADDOCK, Budget, Result, Settings, median, paddock, rounds_of, run

APPENDED = 1000
FUNCTION = """
import csv, io
import paddock

@paddock.pipeline(input=paddock.glob("in", "/*.csv", split="csv:{most}", name="sales"), name="price")
def price(sales: str) -> str:
    rows = csv.DictReader(io.StringIO(sales, newline=""))
    return "".join(f"{{row['id']}},{{float(row['amount']) * 1.2:.2f}}\\n" for row in rows)

if __name__ == "__main__":
    with paddock.connect() as services:
        price.apply(services)
"""


def single_records(settings: Settings) -> Result:
    return measure(settings, "records-single", settings.size(100_000, 2_000), 1)


def thousands(settings: Settings) -> Result:
    return measure(settings, "records-thousands", settings.size(1_000_000, 20_000), 1000)


def measure(settings: Settings, name: str, count: int, most: int) -> Result:
    """From a committed file and an applied pipeline to the finished output, with the cutting and the start of all processes."""
    source = settings.work / "sales.csv"
    longer = settings.work / "longer.csv"
    source.write_text(table(1, count), encoding="utf-8")
    longer.write_text(table(1, count + APPENDED), encoding="utf-8")
    script = settings.work / "price.py"
    script.write_text(FUNCTION.format(most=most), encoding="utf-8")
    run_datums: list[int] = []

    def first(number: int) -> Callable[[], object]:
        home = settings.work / f"home{number}"
        paddock(home, "repo", "create", "in")
        paddock(home, "put", "in@main:/sales.csv", str(source))
        run(["env", f"PADDOCK_HOME={home}", sys.executable, str(script)])
        return lambda: paddock(home, "job", "wait", "price@head")

    def again(number: int) -> Callable[[], object]:
        home = settings.work / f"home{number}"
        paddock(home, "put", "in@main:/sales.csv", str(longer))

        def finish() -> None:
            paddock(home, "job", "wait", "price@head")
            run_datums.append(
                json.loads(run([PADDOCK, "--home", str(home), "job", "list", "--json"]))[0]["datums"]["run"]
            )

        return finish

    samples = rounds_of(
        settings.repeats, {"first": first, "append": again, "one process": lambda _: lambda: one_process(source)}
    )
    seconds = median(samples["first"])
    return Result(
        name=name,
        what=f"a CSV file of {count:,} records, {most:,} to a datum, through a warm Python function",
        seconds=seconds,
        samples=samples["first"],
        others={
            f"after {APPENDED:,} were appended": median(samples["append"]),
            "one Python process, nothing kept": median(samples["one process"]),
        },
        budgets=(Budget("<= 0.1 x after an append", median(samples["append"]) / seconds, 0.1),),
        facts={"records per second": count / seconds, "datums run after the append": run_datums[-1]},
    )


def table(first: int, last: int) -> str:
    rows = (
        f"{number},{number * 31 % 9973 / 100:.2f},note {number * number % 9973}\n" for number in range(first, last + 1)
    )
    return "id,amount,note\n" + "".join(rows)


def one_process(source: Path) -> None:
    with io.StringIO() as target, source.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            target.write(f"{row['id']},{float(row['amount']) * 1.2:.2f}\n")
