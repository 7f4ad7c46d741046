"""Scheduling with real workers: known costs go first, held work is taken over, weights and limits hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddock.catalog import jobs as jobs_sql
from paddock.client.embedded import EmbeddedPaddock
from paddock.model.ids import Digest
from paddock.model.records import JobState
from paddock.runtime.cost_history import known_seconds
from paddock.runtime.job_tables import DATUMS

FILES = 8


def fill(paddock: EmbeddedPaddock, files: int = FILES) -> None:
    paddock.repos.create("data")
    paddock.commits.start("data@main")
    for number in range(files):
        paddock.files.put(f"data@main:/f{number}", b"%d" % number)
    paddock.commits.finish("data@main")


def apply(paddock: EmbeddedPaddock, name: str, script: str, **fields: Any) -> None:
    paddock.pipelines.apply(
        {
            "pipeline": {"name": name},
            "transform": {"cmd": ["sh", "-e", "-c", script]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
            **fields,
        }
    )


def test_what_a_datum_took_is_known_to_the_next_job(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    fill(paddock)
    script = f"n=$(basename $data); echo $n >> {tmp_path}/order; if [ $n = f5 ]; then sleep 0.5; fi; cp $data /pfs/out/"
    apply(paddock, "slow", script)
    paddock.process(workers=1)
    with paddock.home.catalog.read() as tx:
        (job,) = jobs_sql.newest_first(tx, limit=1)
    root = Digest(bytes.fromhex(job.datums_root))
    (rows,) = paddock.home.tables.scan(DATUMS, root)
    names = rows.column("name").combine_chunks()
    seconds = known_seconds(paddock.home, root, names)
    assert int(seconds.argmax()) == 5
    assert seconds[5] >= 0.5
    (tmp_path / "order").unlink()
    paddock.pipelines.rerun("slow", reprocess=True)
    paddock.process(workers=1)
    assert (tmp_path / "order").read_text().split()[0] == "f5"


def test_an_idle_worker_takes_over_what_another_has_not_begun(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    fill(paddock)
    # The batch of the first datum holds all the others, and the first datum waits until another worker had one of them.
    script = (
        f"n=$(basename $data); echo $n >> {tmp_path}/ran; cp $data /pfs/out/; "
        f"if [ $n = f0 ]; then while [ $(wc -l < {tmp_path}/ran) -lt 3 ]; do sleep 0.05; done; fi"
    )
    apply(paddock, "uneven", script, datum_set_spec={"number": FILES}, job_timeout="60s")
    (job,) = paddock.process(workers=2)
    assert (job.state, job.datums.run) == (JobState.SUCCESS, FILES), job.reason


def test_a_short_job_does_not_wait_for_the_end_of_a_long_one(paddock: EmbeddedPaddock, tmp_path: Path) -> None:
    fill(paddock, 40)
    for name, glob in (("long", "/*"), ("short", "/")):
        script = f"echo {name} >> {tmp_path}/ran"
        pfs = {"repo": "data", "glob": glob}
        apply(paddock, name, script, input={"pfs": pfs}, datum_set_spec={"number": 1})
    paddock.process(workers=1)
    ran = (tmp_path / "ran").read_text().split()
    assert len(ran) == 41
    assert ran.index("short") < 4
