"""`cp` of each file, a HyperQueue task each, on a local cluster with one worker of two cores."""

import sys
import time
from pathlib import Path

from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig

WORKERS = 2


def main(source: str, target: str) -> None:
    paths = sorted(str(path) for path in Path(source).iterdir())
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=WORKERS))
        client = cluster.client()
        begin = time.perf_counter()
        job = Job()
        for path in paths:
            job.program(["/bin/cp", path, target], stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(job)])
        seconds = time.perf_counter() - begin
    print(seconds)


main(sys.argv[1], sys.argv[2])
