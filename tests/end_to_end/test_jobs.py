"""Jobs from commit to output, with real workers: what runs, what is reused, what fails and what stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from paddock.client.embedded import EmbeddedPaddock
from paddock.model.errors import Conflict, InvalidInput, NotFound
from paddock.model.records import ApplyOutcome, CommitState, DatumState, Job, JobState


def pipeline(name: str, script: str, *, repo: str = "data", glob: str = "/*", **fields: Any) -> dict[str, Any]:
    """A spec whose command is a shell script."""
    transform = {"cmd": ["sh", "-e", "-c", script], **fields.pop("transform", {})}
    return {
        "pipeline": {"name": name},
        "transform": transform,
        "input": {"pfs": {"repo": repo, "glob": glob}},
        **fields,
    }


def put(paddock: EmbeddedPaddock, files: Mapping[str, bytes], *, branch: str = "data@main") -> None:
    """One commit with these files."""
    paddock.commits.start(branch)
    for path, content in files.items():
        paddock.files.put(f"{branch}:{path}", content)
    paddock.commits.finish(branch)


def read(paddock: EmbeddedPaddock, address: str) -> bytes:
    return b"".join(paddock.files.read(address))


def contents(paddock: EmbeddedPaddock, branch: str) -> dict[str, bytes]:
    return {file.path: read(paddock, f"{branch}:{file.path}") for file in paddock.files.list(branch, recursive=True)}


def only(jobs: Sequence[Job], name: str) -> Job:
    (job,) = [job for job in jobs if job.pipeline == name]
    return job


COPY = 'cp "$data" /pfs/out/'


@pytest.fixture
def data(paddock: EmbeddedPaddock) -> EmbeddedPaddock:
    paddock.repos.create("data")
    put(paddock, {"/a": b"1\n", "/b": b"2\n", "/c": b"3\n"})
    return paddock


def test_a_chain_computes_only_what_a_commit_changes(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("double", "for f in /pfs/data/*; do cat $f $f > /pfs/out/$(basename $f); done"))
    data.pipelines.apply(
        pipeline("sum", "cat /pfs/double/* | awk '{s += $1} END {print s}' > /pfs/out/sum", repo="double", glob="/")
    )
    first = data.process(workers=2)
    assert [job.state for job in first] == [JobState.SUCCESS] * len(first)
    assert read(data, "sum@main:/sum") == b"12\n"

    data.commits.start("data@main")
    data.files.put("data@main:/d", b"10\n")
    data.files.put("data@main:/a", b"5\n")
    data.files.delete("data@main:/b")
    commit = data.commits.finish("data@main")
    second = data.process(workers=2)
    assert only(second, "double").datums.run == 2
    assert only(second, "double").datums.reused == 1
    assert only(second, "double").datums.total == 3
    assert read(data, "sum@main:/sum") == b"36\n"
    assert contents(data, "double@main").keys() == {"/a", "/c", "/d"}

    together = data.commits.inspect_set(commit.id)
    assert {each.repo for each in together.commits} == {"data", "double", "sum"}
    assert {job.id for job in together.jobs} == {commit.id}
    assert data.commits.inspect(f"sum@{commit.id}").provenance == (f"default/double@{commit.id}",)


def test_a_revert_and_another_branch_reuse_results(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("copy", COPY))
    data.process(workers=1)
    data.files.put("data@main:/a", b"other\n")
    assert only(data.process(workers=1), "copy").datums.run == 1
    data.files.put("data@main:/a", b"1\n")
    reverted = only(data.process(workers=1), "copy")
    assert (reverted.datums.run, reverted.datums.reused) == (0, 3)
    assert read(data, "copy@main:/a") == b"1\n"


def test_a_failing_datum_fails_the_job_and_keeps_the_rest(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("check", f"echo looking; {COPY}", datum_tries=1))
    data.pipelines.apply(pipeline("after", 'cp "$check" /pfs/out/', repo="check"))
    data.process(workers=2)
    good = contents(data, "check@main")

    data.pipelines.apply(
        pipeline("check", f'echo looking; test "$(cat $data)" != bad || exit 7; {COPY}', datum_tries=1)
    )
    data.process(workers=2)
    put(data, {"/bad": b"bad\n", "/d": b"4\n"})
    ended = data.process(workers=2)
    failed, after = only(ended, "check"), only(ended, "after")
    assert failed.state is JobState.FAILURE
    assert "data:/bad" in failed.reason
    assert "7" in failed.reason
    assert (failed.datums.run, failed.datums.reused, failed.datums.failed) == (1, 3, 1)
    assert after.state is JobState.UNRUNNABLE
    assert after.reason == "unrunnable because the following upstream pipelines failed: check"
    assert contents(data, "check@main") == good
    with pytest.raises(Conflict, match="data:/bad"):
        read(data, f"check@{failed.id}:/a")

    (datum,) = data.datums.list(f"check@{failed.id}", states=[DatumState.FAILED])
    assert datum.exit_code == 7
    assert [each.path for each in datum.inputs] == ["/bad"]
    assert data.datums.logs(f"check@{failed.id}", datum.id[:10]).startswith(b"looking\n")

    data.files.delete("data@main:/bad")
    mended = only(data.process(workers=2), "check")
    assert (mended.state, mended.datums.run, mended.datums.reused) == (JobState.SUCCESS, 0, 4)


def test_two_datums_with_one_path_are_both_named(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("clash", 'cp "$data" /pfs/out/same'))
    job = only(data.process(workers=2), "clash")
    assert job.state is JobState.FAILURE
    assert "two datums wrote /same" in job.reason
    assert "data:/a" in job.reason
    assert "data:/b" in job.reason


def test_a_new_datum_that_writes_a_kept_datums_path_is_refused(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("clash", 'cp "$data" /pfs/out/$(cut -c1 $data)'))
    data.process(workers=2)
    put(data, {"/z": b"1 again\n"})
    job = only(data.process(workers=2), "clash")
    assert job.state is JobState.FAILURE
    assert "two datums wrote /1" in job.reason
    assert "data:/a" in job.reason
    assert "data:/z" in job.reason
    assert contents(data, "clash@main").keys() == {"/1", "/2", "/3"}


def test_a_path_that_moves_from_one_datum_to_another_is_fine(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("move", 'cp "$data" /pfs/out/$(cut -c1 $data)'))
    data.process(workers=2)
    put(data, {"/a": b"9\n", "/z": b"1\n"})
    job = only(data.process(workers=2), "move")
    assert job.state is JobState.SUCCESS, job.reason
    assert contents(data, "move@main").keys() == {"/1", "/2", "/3", "/9"}


def test_a_file_that_is_also_a_directory_is_refused_with_both_named(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(
        pipeline("clash", "case $data in *a) echo > /pfs/out/x;; *b) mkdir /pfs/out/x; echo > /pfs/out/x/y;; esac")
    )
    job = only(data.process(workers=2), "clash")
    assert job.state is JobState.FAILURE
    assert "/x would be a file and a directory at once" in job.reason
    assert "/x/y" in job.reason
    assert "data:/a" in job.reason
    assert "data:/b" in job.reason


def test_changed_code_recomputes_and_changed_words_do_not(data: EmbeddedPaddock, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "run.sh").write_text("cp $data /pfs/out/\n")
    spec = pipeline("coded", "") | {"transform": {"cmd": ["sh", "run.sh"], "code": "code"}}
    assert data.pipelines.apply(spec, code=code).outcome is ApplyOutcome.CREATED
    assert only(data.process(workers=1), "coded").datums.run == 3
    assert data.pipelines.apply(spec, code=code).outcome is ApplyOutcome.UNCHANGED
    assert not data.process(workers=1)
    assert data.pipelines.apply(spec | {"description": "other words"}, code=code).outcome is ApplyOutcome.UPDATED
    assert only(data.process(workers=1), "coded").datums.reused == 3
    (code / "run.sh").write_text("cp $data /pfs/out/ # changed\n")
    assert data.pipelines.apply(spec, code=code).outcome is ApplyOutcome.UPDATED
    assert only(data.process(workers=1), "coded").datums.run == 3


def test_reprocess_and_every_job_compute_again(data: EmbeddedPaddock) -> None:
    spec = pipeline("copy", COPY)
    data.pipelines.apply(spec)
    data.process(workers=1)
    data.pipelines.rerun("copy")
    assert only(data.process(workers=1), "copy").datums.reused == 3
    data.pipelines.rerun("copy", reprocess=True)
    assert only(data.process(workers=1), "copy").datums.run == 3
    data.pipelines.apply(spec | {"reprocess_spec": "every_job"})
    assert only(data.process(workers=1), "copy").datums.run == 3
    assert contents(data, "copy@main").keys() == {"/a", "/b", "/c"}


def test_recovered_datums_leave_no_output_and_run_again(data: EmbeddedPaddock) -> None:
    script = "grep -q 2 $data && exit 1; cp $data /pfs/out/"
    spec = pipeline("tolerant", script, transform={"err_cmd": ["true"]}, datum_tries=1)
    data.pipelines.apply(spec)
    job = only(data.process(workers=1), "tolerant")
    assert job.state is JobState.SUCCESS, job.reason
    assert (job.datums.run, job.datums.recovered) == (2, 1)
    assert contents(data, "tolerant@main").keys() == {"/a", "/c"}
    data.pipelines.rerun("tolerant")
    again = only(data.process(workers=1), "tolerant")
    assert (again.datums.reused, again.datums.recovered) == (2, 1)


def test_a_job_timeout_kills_the_job_and_says_so(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("slow", "sleep 60", job_timeout="1s"))
    job = only(data.process(workers=1), "slow")
    assert job.state is JobState.KILLED
    assert "job_timeout" in job.reason


def test_stop_start_and_delete(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("copy", COPY))
    data.pipelines.apply(pipeline("more", 'cp "$copy" /pfs/out/', repo="copy"))
    data.process(workers=1)
    data.pipelines.stop("copy")
    put(data, {"/d": b"4\n"})
    assert not data.process(workers=1)
    data.pipelines.start("copy")
    assert only(data.process(workers=1), "more").state is JobState.SUCCESS
    assert "/d" in contents(data, "more@main")
    with pytest.raises(Conflict, match="more"):
        data.pipelines.delete("copy")
    data.pipelines.delete("more")
    data.pipelines.delete("copy", keep_repo=True)
    assert "/d" in contents(data, "copy@main")
    with pytest.raises(NotFound):
        data.pipelines.inspect("copy")


def test_a_stopped_job_keeps_what_it_computed(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("copy", COPY))
    (job,) = data.jobs.list(pipeline="copy")
    stopped = data.jobs.stop(f"copy@{job.id}")
    assert stopped.state is JobState.KILLED
    assert not data.process(workers=1)
    with pytest.raises(Conflict, match="ended already"):
        data.jobs.stop(f"copy@{job.id}")
    assert data.commits.inspect(f"copy@{job.id}").state is CommitState.FAILED


def test_circles_and_missing_repos_are_refused(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("one", COPY))
    data.pipelines.apply(pipeline("two", COPY, repo="one"))
    with pytest.raises(Conflict, match="circle"):
        data.pipelines.apply(pipeline("one", COPY, repo="two"))
    with pytest.raises(NotFound, match="paddock repo create"):
        data.pipelines.apply(pipeline("three", COPY, repo="nowhere"))
    with pytest.raises(InvalidInput):
        data.pipelines.apply(pipeline("four", COPY, glob="/["))
    with pytest.raises(Conflict, match="exists already"):
        data.pipelines.apply(pipeline("data", COPY, repo="one"))
    assert [each.name for each in data.pipelines.list()] == ["one", "two"]


def test_why_leads_back_to_what_users_put(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("copy", COPY))
    data.pipelines.apply(pipeline("all", "cat /pfs/copy/* > /pfs/out/all", repo="copy", glob="/"))
    data.process(workers=1)
    origin = data.why("all@main:/all", inputs_max=2)
    (directory,) = origin.inputs
    assert directory.truncated == 1
    (first, _) = directory.inputs
    assert first.datum is not None
    (source,) = first.inputs
    assert source.file == f"default/data@{source.commit.id}:/a"
    assert source.datum is None
    with pytest.raises(NotFound):
        data.why("all@main:/none")


def test_links_to_inputs_become_outputs_without_copies(data: EmbeddedPaddock) -> None:
    data.pipelines.apply(pipeline("link", "mkdir /pfs/out/d && ln -s $data /pfs/out/d/"))
    data.process(workers=1)
    assert contents(data, "link@main") == {"/d/a": b"1\n", "/d/b": b"2\n", "/d/c": b"3\n"}
