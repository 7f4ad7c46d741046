"""One operation on a large home in a process of its own, so that its memory can be told: prints JSON.

    python bench/probe.py HOME OPERATION REPEATS

{"seconds": [one for each repeat], "bytes": peak of the process's memory, "found": what the last repeat found}. The import of the
package and the opening of the home are not counted; the first repeat reads everything anew, as a command would.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measure import peak_bytes

from paddock.client.embedded import EmbeddedPaddock

REPO = "data"


def put(client: EmbeddedPaddock, number: int) -> int:
    """One small file, durably, each time into another part of the tree."""
    return client.files.put(f"{REPO}@main:{directory(number)}/added", b"added %d" % time.time_ns()).changed


def list_directory(client: EmbeddedPaddock, number: int) -> int:
    return sum(1 for _ in client.files.list(f"{REPO}@main:{directory(number)}"))


def list_root(client: EmbeddedPaddock, number: int) -> int:
    return sum(1 for _ in client.files.list(f"{REPO}@main:/"))


def glob_prefix(client: EmbeddedPaddock, number: int) -> int:
    return sum(1 for _ in client.files.glob(f"{REPO}@main:{directory(number)}/*_000?.png"))


def glob_all(client: EmbeddedPaddock, number: int) -> int:
    return sum(1 for _ in client.files.glob(f"{REPO}@main:/**/*_0001.png"))


def diff(client: EmbeddedPaddock, number: int) -> int:
    """The commit that changed ten files, against its parent."""
    return sum(1 for _ in client.files.diff(f"{REPO}@ten"))


def find(client: EmbeddedPaddock, number: int) -> int:
    return len(client.files.find(f"{REPO}@ten:{directory(7)}/img_0007.png"))


def inspect(client: EmbeddedPaddock, number: int) -> int:
    return client.files.inspect(f"{REPO}@main:{directory(number)}/img_0003.png").size_bytes


def why(client: EmbeddedPaddock, number: int) -> int:
    return client.why(f"{REPO}@ten:{directory(number)}/img_0007.png") is not None


def log(client: EmbeddedPaddock, number: int) -> int:
    return len(client.commits.list(f"{REPO}@main"))


def collect_dry(client: EmbeddedPaddock, number: int) -> int:
    return client.store.collect_garbage(grace_seconds=0, dry_run=True).live_chunks


def collect(client: EmbeddedPaddock, number: int) -> int:
    return client.store.collect_garbage(grace_seconds=0).live_chunks


def check(client: EmbeddedPaddock, number: int) -> int:
    return len(client.store.check().damages)


def usage(client: EmbeddedPaddock, number: int) -> int:
    return client.store.usage().rows[0].stored_bytes


def usage_of_repo(client: EmbeddedPaddock, number: int) -> int:
    return client.store.usage(REPO).rows[0].stored_bytes


def finish(client: EmbeddedPaddock, number: int) -> int:
    """Finish the open commit in which all files were put."""
    return client.commits.finish(f"{REPO}@main").files


def process(client: EmbeddedPaddock, number: int) -> int:
    """Run the one job that waits, on two workers; how many datums were computed."""
    (job,) = client.process(workers=2)
    return job.datums.run


def directory(number: int) -> str:
    """A folder of the tree; neighbours of a number are far apart."""
    return f"/d{number * 7919 % FOLDERS:05d}"


FOLDERS = 1
OPERATIONS: dict[str, Callable[[EmbeddedPaddock, int], int]] = {
    each.__name__: each
    for each in (
        put,
        list_directory,
        list_root,
        glob_prefix,
        glob_all,
        diff,
        find,
        inspect,
        why,
        log,
        collect_dry,
        collect,
        check,
        usage,
        usage_of_repo,
        finish,
        process,
    )
}


def main() -> None:
    global FOLDERS
    home, operation, repeats = Path(sys.argv[1]), OPERATIONS[sys.argv[2]], int(sys.argv[3])
    with EmbeddedPaddock.open(home) as client:
        FOLDERS = max(1, client.repos.inspect(REPO).files // 1000)
        samples: list[float] = []
        found = 0
        if operation not in (finish, process):
            inspect(client, repeats)  # imports what is needed
        for number in range(repeats):
            started = time.perf_counter()
            found = operation(client, number)
            samples.append(time.perf_counter() - started)
    peak = peak_bytes()
    print(json.dumps({"seconds": samples, "bytes": peak, "found": found}))


if __name__ == "__main__":
    main()
