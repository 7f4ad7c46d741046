"""A Python function on each file, as Ray tasks."""

import sys
import time
from pathlib import Path

import ray

WORKERS = 2


@ray.remote
def shout(path: str) -> bytes:
    return Path(path).read_bytes().upper()


def main(source: str, count: int) -> None:
    paths = sorted(str(path) for path in Path(source).iterdir())[:count]
    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.get([shout.remote(paths[0]) for _ in range(WORKERS)])
    begin = time.perf_counter()
    ray.get([shout.remote(path) for path in paths])
    print(time.perf_counter() - begin)


main(sys.argv[1], int(sys.argv[2]))
