"""One suite for every implementation of `model.services.Paddock`: the embedded home, and a server over HTTP."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from paddock.client.connection import connect
from paddock.model.errors import AlreadyExists, Conflict, InvalidInput, NotFound, Unavailable
from paddock.model.records import (
    ApplyOutcome,
    Change,
    CommitOrigin,
    CommitState,
    DatumState,
    FileInfo,
    FileKind,
    Job,
    JobState,
    PipelineState,
    RepoKind,
)
from paddock.model.services import Paddock, Transferred

_numbers = itertools.count()


@pytest.fixture
def project(services: Paddock) -> str:
    """A project of the test's own, so that tests share one home."""
    return services.projects.create(f"p{next(_numbers)}").name


@pytest.fixture
def repo(services: Paddock, project: str) -> str:
    return f"{project}/{services.repos.create(f'{project}/data').name}"


def put(paddock: Paddock, branch: str, **files: bytes) -> None:
    """One commit with these files, at the root."""
    paddock.commits.start(branch)
    for name, content in files.items():
        paddock.files.put(f"{branch}:/{name}", content)
    paddock.commits.finish(branch)


def read(paddock: Paddock, address: str) -> bytes:
    return b"".join(paddock.files.read(address))


def paths(files: Iterator[FileInfo] | Sequence[FileInfo]) -> list[str]:
    return [file.path for file in files]


# ---- objects -----------------------------------------------------------------------------------------------


def test_projects(services: Paddock) -> None:
    made = services.projects.create("alpha", description="first")
    assert (made.name, made.description) == ("alpha", "first")
    assert services.projects.inspect("alpha") == made
    assert made.created.tzinfo is not None
    assert made in services.projects.list()
    with pytest.raises(AlreadyExists, match="alpha"):
        services.projects.create("alpha")
    services.projects.delete("alpha")
    with pytest.raises(NotFound, match="alpha"):
        services.projects.inspect("alpha")
    with pytest.raises(InvalidInput):
        services.projects.create("a/b")


def test_a_project_that_holds_something_stays(services: Paddock, project: str, repo: str) -> None:
    with pytest.raises(Conflict, match="data"):
        services.projects.delete(project)
    with pytest.raises((Conflict, InvalidInput)):
        services.projects.delete("default")


def test_repos(services: Paddock, project: str) -> None:
    made = services.repos.create(f"{project}/b", description="bytes")
    services.repos.create(f"{project}/a")
    assert (made.project, made.name, made.kind, made.description) == (project, "b", RepoKind.USER, "bytes")
    assert [found.name for found in services.repos.list(project=project)] == ["a", "b"]
    assert services.repos.inspect(f"{project}/b") == made
    with pytest.raises(AlreadyExists):
        services.repos.create(f"{project}/b")
    services.repos.delete(f"{project}/b")
    with pytest.raises(NotFound, match="b"):
        services.repos.inspect(f"{project}/b")
    with pytest.raises(NotFound):
        services.repos.create(f"no-{project}/a")
    with pytest.raises(InvalidInput):
        services.repos.create(f"{project}/sp ace")
    with pytest.raises(InvalidInput):
        services.repos.inspect("a/b/c")


def test_branches(services: Paddock, repo: str) -> None:
    put(services, f"{repo}@main", a=b"1")
    main = services.branches.inspect(f"{repo}@main")
    made = services.branches.create(f"{repo}@dev", head="main")
    assert made.head == main.head is not None
    assert [branch.name for branch in services.branches.list(repo)] == ["dev", "main"]
    services.files.put(f"{repo}@dev:/b", b"2")
    assert paths(services.files.list(f"{repo}@main")) == ["/a"]
    moved = services.branches.create(f"{repo}@main", head="dev")
    assert moved.head == services.branches.inspect(f"{repo}@dev").head
    services.branches.delete(f"{repo}@dev")
    with pytest.raises(NotFound, match="dev"):
        services.branches.inspect(f"{repo}@dev")
    assert paths(services.files.list(f"{repo}@main")) == ["/a", "/b"]


def test_commits(services: Paddock, repo: str) -> None:
    started = services.commits.start(f"{repo}@main", description="two files")
    assert (started.state, started.origin, started.finished) == (CommitState.OPEN, CommitOrigin.USER, None)
    assert services.branches.inspect(f"{repo}@main").open_commit == started.id
    services.files.put(f"{repo}@main:/a", b"1")
    services.files.put(f"{repo}@main:/b", b"2")
    finished = services.commits.finish(f"{repo}@main")
    assert (finished.id, finished.state, finished.files, finished.size_bytes) == (
        started.id,
        CommitState.FINISHED,
        2,
        2,
    )
    assert finished.description == "two files"
    assert services.commits.inspect(f"{repo}@main", wait_seconds=5) == finished
    assert services.commits.inspect(f"{repo}@{finished.id}") == finished

    services.files.put(f"{repo}@main:/a", b"3")
    newest, oldest = services.commits.list(repo)
    assert newest.parent == oldest.id == finished.id
    assert [commit.id for commit in services.commits.list(f"{repo}@main^")] == [oldest.id]
    assert [commit.id for commit in services.commits.list(repo, limit=1)] == [newest.id]
    assert services.commits.inspect(f"{repo}@main.1").id == oldest.id
    assert services.commits.inspect_set(newest.id).commits == (newest,)
    assert newest.id in [found.id for found in services.commits.list_sets(limit=5)]
    with pytest.raises(NotFound):
        services.commits.inspect(f"{repo}@main^5")
    with pytest.raises(NotFound):
        services.commits.inspect_set("0" * 32)


def test_an_abandoned_commit_leaves_nothing(services: Paddock, repo: str) -> None:
    put(services, f"{repo}@main", a=b"1")
    services.commits.start(f"{repo}@main")
    services.files.put(f"{repo}@main:/a", b"other")
    with pytest.raises(Conflict):
        services.commits.start(f"{repo}@main")
    services.commits.abandon(f"{repo}@main")
    assert read(services, f"{repo}@main:/a") == b"1"
    assert len(services.commits.list(repo)) == 1
    with pytest.raises(NotFound, match="open commit"):
        services.commits.finish(f"{repo}@main")


# ---- files -------------------------------------------------------------------------------------------------


def test_put_and_read(services: Paddock, repo: str) -> None:
    report = services.files.put(f"{repo}@main:/dir/file", io.BytesIO(b"hello "))
    assert (report.files, report.bytes, report.changed) == (1, 6, 1)
    assert report.commit == services.branches.inspect(f"{repo}@main").head
    services.files.put(f"{repo}@main:/dir/file", b"world", append=True)
    assert read(services, f"{repo}@main:/dir/file") == b"hello world"
    assert b"".join(services.files.read(f"{repo}@main:/dir/file", offset=6, length=3)) == b"wor"
    assert b"".join(services.files.read(f"{repo}@main:/dir/file", offset=11)) == b""
    assert read(services, f"{repo}@main^:/dir/file") == b"hello "
    services.files.put(f"{repo}@main:/empty", b"")
    assert read(services, f"{repo}@main:/empty") == b""


def test_a_large_file_comes_back(services: Paddock, repo: str) -> None:
    content = os.urandom(9 << 20)
    services.files.put(f"{repo}@main:/large", io.BytesIO(content))
    assert read(services, f"{repo}@main:/large") == content
    middle = services.files.read(f"{repo}@main:/large", offset=5_000_000, length=1_000_000)
    assert b"".join(middle) == content[5_000_000:6_000_000]


@pytest.mark.parametrize("name", ["ü x/ß", "a%2Fb", "q?x=1&y", "#hash", "*[star]{a,b}", "a:b@c", "новый\nline"])
def test_names_of_any_kind(services: Paddock, repo: str, name: str) -> None:
    services.files.put(f"{repo}@main:/{name}", name.encode())
    assert read(services, f"{repo}@main:/{name}") == name.encode()
    assert paths(services.files.list(f"{repo}@main", recursive=True)) == [f"/{name}"]
    assert services.files.inspect(f"{repo}@main:/{name}").path == f"/{name}"
    services.files.delete(f"{repo}@main:/{name}")
    assert paths(services.files.list(f"{repo}@main")) == []


def test_reading_what_is_not_there(services: Paddock, repo: str) -> None:
    services.files.put(f"{repo}@main:/dir/file", b"1")
    with pytest.raises(NotFound, match="/none"):
        services.files.read(f"{repo}@main:/none")
    with pytest.raises(InvalidInput, match="directory"):
        services.files.read(f"{repo}@main:/dir")
    with pytest.raises(NotFound):
        services.files.list(f"{repo}@main:/none")
    with pytest.raises(NotFound):
        services.files.inspect(f"{repo}@none")
    with pytest.raises(NotFound):
        services.files.read(f"{repo}-none@main:/a")
    with pytest.raises(InvalidInput):
        services.files.read(f"{repo}@main:/a/../b")
    with pytest.raises(InvalidInput):
        services.files.read(f"{repo}@ma in:/a")


def test_listing(services: Paddock, repo: str) -> None:
    put(services, f"{repo}@main", **{"b/x": b"12", "b/y/z": b"345", "a": b"1"})
    assert paths(services.files.list(f"{repo}@main")) == ["/a", "/b"]
    assert paths(services.files.list(f"{repo}@main", recursive=True)) == ["/a", "/b/x", "/b/y/z"]
    assert paths(services.files.list(f"{repo}@main:/b")) == ["/b/x", "/b/y"]
    assert paths(services.files.list(f"{repo}@main:/a")) == ["/a"]
    folder = services.files.inspect(f"{repo}@main:/b")
    assert (folder.kind, folder.files, folder.size_bytes) == (FileKind.DIRECTORY, 2, 5)
    root = services.files.inspect(f"{repo}@main")
    assert (root.path, root.files, root.size_bytes) == ("/", 3, 6)
    assert paths(services.files.glob(f"{repo}@main:/b/*")) == ["/b/x", "/b/y"]
    assert paths(services.files.glob(f"{repo}@main:/**/z")) == ["/b/y/z"]
    with pytest.raises(InvalidInput):
        services.files.glob(f"{repo}@main:/[a")


def test_a_long_listing_is_whole(services: Paddock, repo: str, tmp_path: Path) -> None:
    for number in range(700):
        (tmp_path / f"{number:04}").write_bytes(b"%d" % number)
    services.files.put_tree(f"{repo}@main", tmp_path)
    assert paths(services.files.list(f"{repo}@main")) == [f"/{number:04}" for number in range(700)]


def test_delete_and_copy(services: Paddock, repo: str) -> None:
    put(services, f"{repo}@main", **{"d/x": b"1", "d/y": b"2", "z": b"3"})
    services.files.copy(f"{repo}@main:/d", f"{repo}@main:/e")
    assert paths(services.files.list(f"{repo}@main", recursive=True)) == ["/d/x", "/d/y", "/e/x", "/e/y", "/z"]
    with pytest.raises((InvalidInput, Conflict)):
        services.files.delete(f"{repo}@main:/d")
    assert services.files.delete(f"{repo}@main:/d", recursive=True).removed == 2
    assert services.files.delete(f"{repo}@main:/z").removed == 1
    with pytest.raises(NotFound, match="/z"):
        services.files.delete(f"{repo}@main:/z")
    services.files.copy(f"{repo}@main^:/z", f"{repo}@main:/e/x", append=True)
    assert read(services, f"{repo}@main:/e/x") == b"13"
    with pytest.raises(NotFound):
        services.files.copy(f"{repo}@main:/none", f"{repo}@main:/a")


def test_diff_and_find(services: Paddock, repo: str) -> None:
    put(services, f"{repo}@main", a=b"1", b=b"2")
    services.commits.start(f"{repo}@main")
    services.files.put(f"{repo}@main:/a", b"changed")
    services.files.put(f"{repo}@main:/c", b"3")
    services.files.delete(f"{repo}@main:/b")
    second = services.commits.finish(f"{repo}@main")
    found = [(item.path, item.change) for item in services.files.diff(f"{repo}@main")]
    assert found == [("/a", Change.CHANGED), ("/b", Change.REMOVED), ("/c", Change.ADDED)]
    assert list(services.files.diff(f"{repo}@main", f"{repo}@main")) == []
    reverse = [(item.path, item.change) for item in services.files.diff(f"{repo}@main^", f"{repo}@main")]
    assert reverse == [("/a", Change.CHANGED), ("/b", Change.ADDED), ("/c", Change.REMOVED)]
    (commit, item), (_, first) = services.files.find(f"{repo}@main:/a")
    assert (commit.id, item.change, first.change) == (second.id, Change.CHANGED, Change.ADDED)
    assert len(services.files.find(f"{repo}@main:/a", limit=1)) == 1


def make_folder(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "one").write_bytes(b"1")
    (root / "sub" / "two").write_bytes(b"22")
    (root / "sub" / "run").write_bytes(b"#!/bin/sh\n")
    (root / "sub" / "run").chmod(0o755)
    (root / "link").symlink_to("one")
    return root


def test_a_tree_goes_in_and_out(services: Paddock, repo: str, tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    seen: list[Transferred] = []
    report = services.files.put_tree(f"{repo}@main:/in", source, on_transfer=seen.append)
    assert (report.files, report.bytes) == (4, 14)
    assert (seen[-1].files, seen[-1].bytes) == (4, 14)
    assert services.files.inspect(f"{repo}@main:/in/sub/run").executable
    assert not services.files.inspect(f"{repo}@main:/in/one").executable

    seen.clear()
    target = tmp_path / "target"
    got = services.files.get_tree(f"{repo}@main:/in", target, on_transfer=seen.append)
    assert (got.files, got.bytes, got.written) == (4, 14, 4)
    assert (seen[-1].files, seen[-1].bytes) == (4, 14)
    assert (target / "link").read_bytes() == b"1"
    assert (target / "sub" / "two").read_bytes() == b"22"
    assert os.access(target / "sub" / "run", os.X_OK)
    assert not os.access(target / "one", os.X_OK)


def test_where_a_single_file_goes(services: Paddock, repo: str, tmp_path: Path) -> None:
    source = tmp_path / "note.txt"
    source.write_bytes(b"text")
    services.files.put_tree(f"{repo}@main:/named", source)
    services.files.put_tree(f"{repo}@main:/below/", source)
    services.files.put_tree(f"{repo}@main", source)
    assert paths(services.files.list(f"{repo}@main", recursive=True)) == ["/below/note.txt", "/named", "/note.txt"]
    services.files.get_tree(f"{repo}@main:/named", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_bytes() == b"text"
    services.files.put_tree(f"{repo}@main:/named", source, append=True)
    assert read(services, f"{repo}@main:/named") == b"texttext"


@pytest.mark.parametrize("format", ["tar", "tar.gz", "tar.zst", "zip"])
def test_archives_go_in_and_out(services: Paddock, repo: str, tmp_path: Path, format: str) -> None:
    source = make_folder(tmp_path / "source")
    (source / "large").write_bytes(os.urandom(3 << 20))
    services.files.put_tree(f"{repo}@main:/in", source)
    archive = b"".join(services.files.get_archive(f"{repo}@main:/in", format=format))
    report = services.files.put_archive(f"{repo}@main:/out", io.BytesIO(archive))
    assert (report.files, report.bytes) == (5, 14 + (3 << 20))
    before, after = (services.files.inspect(f"{repo}@main:/{name}") for name in ("in", "out"))
    assert (before.digest, before.files) == (after.digest, after.files)
    single = b"".join(services.files.get_archive(f"{repo}@main:/in/sub/run", format=format))
    services.files.put_archive(f"{repo}@main:/single", io.BytesIO(single), mirror=True)
    assert services.files.inspect(f"{repo}@main:/single/run").executable
    for wrong, kind in (("none", NotFound), ("in", InvalidInput)):
        with pytest.raises(kind):
            services.files.get_archive(f"{repo}@main:/{wrong}", format="rar" if wrong == "in" else format)
    with pytest.raises(InvalidInput, match="no archive"):
        services.files.put_archive(f"{repo}@main:/out", io.BytesIO(b"text"))


def test_mirroring_in(services: Paddock, repo: str, tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    services.files.put(f"{repo}@main:/keep", b"beside")
    services.files.put_tree(f"{repo}@main:/in", source, mirror=True)
    assert services.files.put_tree(f"{repo}@main:/in", source, mirror=True).commit is None
    (source / "one").unlink()
    (source / "link").unlink()
    (source / "three").write_bytes(b"333")
    report = services.files.put_tree(f"{repo}@main:/in", source, mirror=True)
    assert (report.changed, report.removed) == (1, 2)
    expected = ["/in/sub/run", "/in/sub/two", "/in/three", "/keep"]
    assert paths(services.files.list(f"{repo}@main", recursive=True)) == expected


def test_mirroring_out(services: Paddock, repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_bytes(b"never touched")
    put(services, f"{repo}@main", **{"a": b"1", "d/b": b"2"})
    assert services.files.get_tree(f"{repo}@main", target, mirror=True).written == 2
    again = services.files.get_tree(f"{repo}@main", target, mirror=True)
    assert (again.files, again.written, again.removed) == (2, 0, 0)

    services.files.delete(f"{repo}@main:/d/b")
    services.files.put(f"{repo}@main:/a", b"one")
    report = services.files.get_tree(f"{repo}@main", target, mirror=True)
    assert (report.written, report.removed) == (1, 1)
    assert sorted(path.name for path in target.iterdir()) == ["a", "mine"]
    assert (target / "a").read_bytes() == b"one"


def test_what_cannot_be_put_is_listed_whole(services: Paddock, repo: str, tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    os.mkfifo(source / "pipe")
    os.mkfifo(source / "sub" / "other")
    with pytest.raises(InvalidInput) as caught:
        services.files.put_tree(f"{repo}@main", source)
    assert "pipe" in str(caught.value)
    assert "other" in str(caught.value)
    with pytest.raises((NotFound, InvalidInput)):
        services.files.put_tree(f"{repo}@main", tmp_path / "none")
    assert not services.commits.list(repo)


def test_a_file_that_is_also_a_directory_is_refused(services: Paddock, repo: str) -> None:
    services.files.put(f"{repo}@main:/a", b"1")
    with pytest.raises(Conflict, match="/a"):
        services.files.put(f"{repo}@main:/a/b", b"2")
    with pytest.raises(InvalidInput):
        services.files.put(f"{repo}@main", b"2")


# ---- compute -----------------------------------------------------------------------------------------------


def spec(project: str, name: str, script: str, *, repo: str = "data", **fields: Any) -> dict[str, Any]:
    return {
        "pipeline": {"project": project, "name": name},
        "transform": {"cmd": ["sh", "-e", "-c", script]},
        "input": {"pfs": {"project": project, "name": "in", "repo": repo, "glob": "/*"}},
        "datum_tries": 1,
        **fields,
    }


COPY = "cp /pfs/in/* /pfs/out/; echo copied"


def address(job: Job) -> str:
    return f"{job.project}/{job.pipeline}@{job.id}"


def test_pools_and_their_tokens(services: Paddock, project: str) -> None:
    assert list(services.pools.list()) == []
    made = services.pools.create_token(project, description="for the lab")
    assert made.token in services.pools.list_tokens()
    assert made.secret not in str(services.pools.list_tokens())
    services.pools.delete_token(made.token.id)
    assert made.token not in services.pools.list_tokens()
    with pytest.raises(NotFound, match="paddock pool tokens"):
        services.pools.delete_token(made.token.id)
    with pytest.raises(InvalidInput):
        services.pools.create_token("a/b")


def test_pipelines(services: Paddock, project: str, repo: str) -> None:
    made = services.pipelines.apply(spec(project, "copy", COPY, description="first"))
    assert (made.outcome, made.pipeline.version, made.pipeline.state) == (
        ApplyOutcome.CREATED,
        1,
        PipelineState.RUNNING,
    )
    assert made.job is None
    assert services.pipelines.apply(spec(project, "copy", COPY, description="first")).outcome is ApplyOutcome.UNCHANGED
    changed = services.pipelines.apply(spec(project, "copy", COPY + "; true", description="second"))
    assert (changed.outcome, changed.pipeline.version) == (ApplyOutcome.UPDATED, 2)
    assert [found.name for found in services.pipelines.list(project=project)] == ["copy"]
    assert services.pipelines.inspect(f"{project}/copy").description == "second"
    assert services.pipelines.inspect(f"{project}/copy", version=1).description == "first"
    assert services.repos.inspect(f"{project}/copy").kind is RepoKind.PIPELINE
    with pytest.raises(Conflict, match="copy"):
        services.files.put(f"{project}/copy@main:/a", b"1")
    with pytest.raises(Conflict):
        services.repos.delete(repo)
    assert services.pipelines.stop(f"{project}/copy").state is PipelineState.STOPPED
    assert services.pipelines.start(f"{project}/copy").state is PipelineState.RUNNING
    services.pipelines.delete(f"{project}/copy")
    with pytest.raises(NotFound, match="copy"):
        services.pipelines.inspect(f"{project}/copy")


def test_specs_with_faults(services: Paddock, project: str, repo: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        services.pipelines.apply(spec(project, "copy", COPY, datum_trys=3, descriptoin="x"))
    assert len(caught.value.problems) == 2
    assert "datum_tries" in str(caught.value)
    with pytest.raises(NotFound, match="nothing"):
        services.pipelines.apply(spec(project, "copy", COPY, repo="nothing"))


def test_jobs_and_datums(services: Paddock, project: str, repo: str) -> None:
    services.pipelines.apply(spec(project, "copy", COPY))
    put(services, f"{repo}@main", a=b"1", b=b"2")
    progress: list[Sequence[Job]] = []
    (job,) = services.jobs.wait([f"{project}/copy@head"], on_progress=progress.append)
    assert progress
    assert job.state is JobState.SUCCESS
    assert (job.datums.total, job.datums.run, job.datums.failed) == (2, 2, 0)
    assert services.jobs.inspect(address(job)) == job
    assert list(services.jobs.list(pipeline=f"{project}/copy")) == [job]
    assert read(services, f"{project}/copy@main:/b") == b"2"

    datums = list(services.datums.list(address(job)))
    assert [datum.inputs[0].path for datum in datums] == ["/a", "/b"]
    assert {datum.state for datum in datums} == {DatumState.SUCCESS}
    assert list(services.datums.list(address(job), states=(DatumState.FAILED,))) == []
    assert len(list(services.datums.list(address(job), limit=1))) == 1
    first = services.datums.inspect(address(job), datums[0].id[:12])
    assert first == datums[0]
    assert services.datums.logs(address(job), first.id) == b"copied\n"
    assert dict(services.jobs.logs(address(job))) == {datum.id: b"copied\n" for datum in datums}
    assert dict(services.jobs.logs(address(job), datum=first.id)) == {first.id: b"copied\n"}
    timing = services.jobs.timing(address(job))
    assert timing.computed == 2
    assert timing.total_seconds == job.seconds
    assert set(timing.slowest) == set(datums)
    assert timing.times is not None
    assert 0 < timing.times.code_seconds <= timing.datum_seconds
    assert timing.forecasts[0].workers == 1
    with pytest.raises(NotFound):
        services.datums.inspect(address(job), "0" * 32)
    with pytest.raises(NotFound):
        services.jobs.timing(f"{project}/copy@{'0' * 32}")
    with pytest.raises(Conflict):
        services.jobs.stop(address(job))

    origin = services.why(f"{project}/copy@main:/a")
    assert origin.datum is not None
    assert origin.datum.id == first.id
    assert [item.file for item in origin.inputs] == [f"{repo}@{job.id}:/a"]
    with pytest.raises(NotFound):
        services.why(f"{project}/copy@main:/none")
    assert services.commits.inspect_set(job.id).jobs == (job,)


def test_a_failing_job(services: Paddock, project: str, repo: str) -> None:
    services.pipelines.apply(spec(project, "fail", "echo oh dear; exit 3"))
    put(services, f"{repo}@main", a=b"1")
    (job,) = services.jobs.wait([f"{project}/fail@head"])
    assert (job.state, job.datums.failed) == (JobState.FAILURE, 1)
    assert "/a" in job.reason
    (datum,) = services.datums.list(address(job), states=(DatumState.FAILED,))
    assert datum.exit_code == 3
    assert services.datums.logs(address(job), datum.id).startswith(b"oh dear\n")
    with pytest.raises(Conflict):
        services.files.read(f"{project}/fail@{job.id}:/a")


def test_a_stopped_job(services: Paddock, project: str, repo: str) -> None:
    services.pipelines.apply(spec(project, "slow", "sleep 600"))
    put(services, f"{repo}@main", a=b"1")
    (waiting,) = services.jobs.wait([f"{project}/slow@head"], timeout_seconds=0)
    assert not waiting.state.final
    stopped = services.jobs.stop(f"{project}/slow@head", reason="enough")
    assert stopped.state is JobState.KILLED
    assert "enough" in stopped.reason


def test_code_is_versioned_with_the_pipeline(services: Paddock, project: str, repo: str, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "work.sh").write_text("cp /pfs/in/* /pfs/out/\n")
    body = spec(project, "coded", "sh work.sh")
    body["transform"]["code"] = "code"
    put(services, f"{repo}@main", a=b"1")
    services.pipelines.apply(body, code=code)
    (job,) = services.jobs.wait([f"{project}/coded@head"])
    assert job.state is JobState.SUCCESS, job.reason
    assert services.pipelines.apply(body, code=code).outcome is ApplyOutcome.UNCHANGED
    (code / "work.sh").write_text("tr 1 2 < /pfs/in/a > /pfs/out/a\n")
    assert services.pipelines.apply(body, code=code).outcome is ApplyOutcome.UPDATED
    (job,) = services.jobs.wait([f"{project}/coded@head"])
    assert (job.state, job.datums.run) == (JobState.SUCCESS, 1), job.reason
    assert read(services, f"{project}/coded@main:/a") == b"2"


def test_process_works_off_what_there_is(services: Paddock, project: str, repo: str) -> None:
    services.pipelines.apply(spec(project, "copy", COPY))
    put(services, f"{repo}@main", a=b"1")
    head = services.jobs.inspect(f"{project}/copy@head")
    (job,) = services.process(workers=1, jobs=[(f"{project}/copy", head.id)])
    assert (job.id, job.state) == (head.id, JobState.SUCCESS)
    rerun = services.pipelines.rerun(f"{project}/copy", reprocess=True)
    services.process(workers=1)
    done = services.jobs.inspect(address(rerun))
    assert (done.state, done.datums.run, done.datums.reused) == (JobState.SUCCESS, 1, 0)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with connect(url="http://127.0.0.1:9", environment={}) as nobody:
        with pytest.raises(Unavailable, match="paddock up"):
            nobody.repos.list()
        with pytest.raises(Unavailable):
            nobody.files.read("data:/a")


# ---- history -----------------------------------------------------------------------------------------------


def test_tags(services: Paddock, repo: str) -> None:
    put(services, f"{repo}@main", a=b"1")
    made = services.tags.create(f"{repo}@v1", "main", description="first")
    put(services, f"{repo}@main", a=b"2")
    assert [*services.tags.list(repo)] == [made]
    assert services.tags.inspect(f"{repo}@v1") == made
    assert read(services, f"{repo}@v1:/a") == b"1"
    with pytest.raises(AlreadyExists, match="v1"):
        services.tags.create(f"{repo}@v1", "main")
    services.tags.delete(f"{repo}@v1")
    with pytest.raises(NotFound, match="v1"):
        services.tags.inspect(f"{repo}@v1")


def test_squash_and_drop_take_commits_out_of_history(services: Paddock, repo: str) -> None:
    for data in (b"1", b"2", b"3"):
        put(services, f"{repo}@main", a=data)
    first, second, third = reversed([commit.id for commit in services.commits.list(repo)])
    assert [commit.id for commit in services.commits.squash(f"{repo}@main^")] == [second]
    assert services.commits.inspect(f"{repo}@main").parent == first
    with pytest.raises(Conflict, match=third):
        services.commits.drop(first)
    assert [commit.id for commit in services.commits.drop(third)] == [third]
    assert read(services, f"{repo}@main:/a") == b"1"
    with pytest.raises(Conflict, match="a user made it"):
        services.commits.forget(f"{repo}@main")
    with pytest.raises(Conflict, match="no output commit"):
        services.commits.forget(first)
    with pytest.raises(InvalidInput, match="not a commit set"):
        services.commits.drop("data", recursive=True)


# ---- upkeep ------------------------------------------------------------------------------------------------


def test_upkeep_of_the_store(services: Paddock, repo: str) -> None:
    put(services, f"{repo}@main", a=os.urandom(100_000))
    assert services.store.check(data=True).sound
    (row,) = services.store.usage(f"{repo}@main").rows
    assert (row.files, row.logical_bytes) == (1, 100_000)
    assert row.stored_bytes >= row.alone_bytes >= 100_000
    services.repos.delete(repo)
    said = services.store.collect_garbage(grace_seconds=0, dry_run=True)
    assert said.freed_bytes >= 100_000
    assert services.store.collect_garbage(grace_seconds=0).freed_bytes == said.freed_bytes
    assert services.store.collect_garbage().dropped_results == 0
    with pytest.raises(NotFound):
        services.store.usage(repo)
