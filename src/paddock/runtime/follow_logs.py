"""The logs of a job as they come: lines of running datums at once, the others when they are reported."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from paddock.catalog import batches as batches_sql
from paddock.catalog import jobs as jobs_sql
from paddock.catalog.batches import BatchRow
from paddock.catalog.jobs import JobRow
from paddock.model.ids import Digest
from paddock.model.records import JobState
from paddock.runtime.batch_results import read_logs
from paddock.runtime.datum_service import DatumService
from paddock.runtime.job_records import find_job
from paddock.runtime.live_logs import LiveReader, Printed
from paddock.versions.home import Home

LOOK_SECONDS = 0.1
IDLE_SECONDS = 1.0


def follow_logs(home: Home, job: str, *, datum: str = "") -> Iterator[tuple[str, bytes]]:
    """(datum id, whole lines) until the job has ended; an empty pair now and then while nothing comes.

    datum: only those whose id starts so. Every line comes once, but those of a datum whose worker dies, which come again. Cost:
    what is printed, and ten looks a second at the catalog and the workers' folders. Memory: an id for each datum.
    """
    with home.catalog.read() as tx:
        row = find_job(tx, job)
    reader = LiveReader(home.path / "scratch", f"{row.set_id}.{row.pipeline_id}.{row.version}.", datum)
    shown: set[str] = set()
    batches = 0
    told = time.monotonic()
    try:
        while True:
            # Asked before anything is read: what a job reported until its end is then seen.
            with home.catalog.read() as tx:
                final = JobState(jobs_sql.get(tx, row.id).state).final
                reported = batches_sql.of_job(tx, row.id)[batches:]
            batches += len(reported)
            came = False
            for printed in _news(home, row, reported, reader, shown, final=final):
                came = True
                yield printed
            if final:
                return
            if came:
                told = time.monotonic()
            elif time.monotonic() - told >= IDLE_SECONDS:
                told = time.monotonic()
                yield "", b""
            time.sleep(LOOK_SECONDS)
    finally:
        reader.close()


def _news(
    home: Home, row: JobRow, reported: Sequence[BatchRow], reader: LiveReader, shown: set[str], *, final: bool
) -> Iterator[Printed]:
    """What has come since the last look, read as it is taken: who takes it slowly makes nothing pile up."""
    yield from reader.read()
    for each in reported:
        yield from _reported(home, Digest(bytes.fromhex(each.result)), reader, shown)
    if final:
        yield from _left(home, f"{row.project}/{row.pipeline}@{row.set_id}", reader, shown)


def _reported(home: Home, batch: Digest, reader: LiveReader, shown: set[str]) -> Iterator[Printed]:
    for id, log in read_logs(home.chunks, batch):
        if id not in shown and id.startswith(reader.datum):
            shown.add(id)
            rest = reader.rest(id, log)
            if rest:
                yield Printed(id, rest)


def _left(home: Home, job: str, reader: LiveReader, shown: set[str]) -> Iterator[Printed]:
    """What the job reported between the last look and its end."""
    for id, log in DatumService(home).all_logs(job, prefix=reader.datum, shown=shown):
        rest = reader.rest(id, log)
        if rest:
            yield Printed(id, rest)
