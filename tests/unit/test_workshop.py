"""Workers that start before there is work: used by the work, ended without it, and one set of them per home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.records import JobState
from paddock.runtime.engines.local import WorkerOptions
from paddock.runtime.workshop import Workshop


def _work(client: EmbeddedPaddock) -> None:
    client.repos.create("data")
    client.pipelines.apply(
        {
            "pipeline": {"name": "copy"},
            "transform": {"cmd": ["sh", "-c", "cp $data /pfs/out/ && echo $PPID"]},
            "input": {"pfs": {"repo": "data", "glob": "/*"}},
        }
    )
    client.files.put("data@main:/a", b"a")


def _free(client: EmbeddedPaddock) -> bool:
    workshop = Workshop.open(client.home, options=WorkerOptions())
    if workshop is not None:
        workshop.close()
    return workshop is not None


def test_expected_work_is_done_by_the_workers_that_were_started(tmp_path: Path) -> None:
    with EmbeddedPaddock.open(tmp_path / "home") as client:
        client.expect_work(workers=1)
        assert not _free(client)
        _work(client)
        assert [job.state for job in client.process(workers=1)] == [JobState.SUCCESS]
    with EmbeddedPaddock.open(tmp_path / "home") as client:
        assert _free(client)
        assert list((tmp_path / "home" / "scratch").iterdir()) == []


def test_work_can_be_expected_again_while_workers_end(tmp_path: Path) -> None:
    with EmbeddedPaddock.open(tmp_path / "home") as client:
        client.expect_work(workers=1)
        _work(client)
        client.process(workers=1)
        client.expect_work(workers=1)
        client.files.put("data@main:/b", b"b")
        assert [job.state for job in client.process(workers=1)] == [JobState.SUCCESS]


def test_workers_that_had_no_work_end_with_the_client(tmp_path: Path) -> None:
    with EmbeddedPaddock.open(tmp_path / "home") as client:
        client.expect_work(workers=2)
        client.expect_work(workers=2)
    with EmbeddedPaddock.open(tmp_path / "home") as client:
        assert _free(client)
        assert list((tmp_path / "home" / "scratch").iterdir()) == []


def test_who_does_not_get_the_home_works_when_the_other_has_ended(tmp_path: Path) -> None:
    with EmbeddedPaddock.open(tmp_path / "home") as first, EmbeddedPaddock.open(tmp_path / "home") as second:
        first.expect_work(workers=1)
        second.expect_work(workers=1)
        _work(second)
        assert not _free(second)
        assert [job.state for job in first.process(workers=1)] == [JobState.SUCCESS]
        assert list(second.process(workers=1)) == []


def test_workers_start_before_what_plans_is_imported() -> None:
    program = "import sys, paddock.runtime.workshop; print(*{'numpy', 'pyarrow', 'pydantic'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []
