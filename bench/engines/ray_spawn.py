"""`cp` of each file, a Ray task that starts a process."""

import os
import sys
import time
from pathlib import Path

import ray

WORKERS = 2


@ray.remote
def run(*words: str) -> None:
    process = os.posix_spawn(words[0], words, os.environ)
    if os.waitpid(process, 0)[1]:
        raise RuntimeError(f"{words} failed")


def main(source: str, target: str) -> None:
    paths = sorted(str(path) for path in Path(source).iterdir())
    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.get([run.remote("/bin/true") for _ in range(WORKERS)])
    begin = time.perf_counter()
    ray.get([run.remote("/bin/cp", path, target) for path in paths])
    print(time.perf_counter() - begin)


main(sys.argv[1], sys.argv[2])
