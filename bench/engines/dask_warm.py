"""A Python function on each file, as tasks of Dask's distributed scheduler with two worker processes."""

import sys
import time
from pathlib import Path

from distributed import Client, LocalCluster

WORKERS = 2


def shout(path: str) -> bytes:
    return Path(path).read_bytes().upper()


def main(source: str, count: int) -> None:
    paths = sorted(str(path) for path in Path(source).iterdir())[:count]
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(shout, paths[:WORKERS], pure=False))
        begin = time.perf_counter()
        client.gather(client.map(shout, paths, pure=False))
        seconds = time.perf_counter() - begin
    print(seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
