"""`paddock run`: specs and folders in, results out, in one call. The work behind the command, for any `Paddock`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from paddock.client.run_parts import RunReport, ensure_current, ensure_repo, get_output, has_head, repo_exists
from paddock.client.specs import LoadedSpec, apply_all, load_specs, nearest, upstream_first
from paddock.client.working import OnProgress, newest_jobs, work_off
from paddock.model.addresses import parse_address, parse_repo
from paddock.model.errors import Conflict, InvalidInput, NotFound, Problem
from paddock.model.records import (
    DEFAULT_PROJECT,
    AppliedPipeline,
    Commit,
    PipelineState,
    PutReport,
)
from paddock.model.services import OnTransfer, Paddock


def run_specs(
    paddock: Paddock,
    files: Sequence[Path],
    *,
    inputs: Mapping[str, Path] | None = None,
    outputs: Mapping[str, Path] | None = None,
    workers: int | None = None,
    default_project: str = DEFAULT_PROJECT,
    no_cache: bool = False,
    keep_results: bool = False,
    audit: float | None = None,
    on_transfer: OnTransfer | None = None,
    on_progress: OnProgress | None = None,
) -> RunReport:
    """Apply specs, mirror folders into the repos that they read, process until idle, mirror outputs out.

    inputs: {`repo` or `repo@branch`: folder}; a missing repo is created. outputs: {pipeline: folder}; written where the
    pipeline's last job succeeded. A pipeline whose last job did not succeed is run again, reusing every kept result.
    Everything is checked before anything is changed. Failed jobs are in the report; they do not raise.
    no_cache, keep_results, audit: `reprocess`, `keep_results` and `audit` of `Pipelines.apply`, for all specs.
    """
    started = time.monotonic()
    paddock.expect_work(workers=workers)
    specs = upstream_first(load_specs(files, default_project=default_project))
    puts = _planned_puts(specs, inputs or {}, default_project)
    gets = _planned_gets(specs, outputs or {}, default_project)
    _check_repos(paddock, specs, {parse_address(target).repo.__str__() for target in puts})
    _check_running(paddock, specs)
    before = newest_jobs(paddock, [spec.address for spec in specs])

    def apply() -> list[AppliedPipeline]:
        return apply_all(paddock, specs, hold=True, reprocess=no_cache, keep_results=keep_results, audit=audit)

    reports, applied = _put_and_apply(paddock, puts, specs, apply, on_transfer)
    jobs = work_off(paddock, before, workers=workers, on_progress=on_progress)
    for spec, folder in gets:
        get_output(paddock, spec.address, spec.spec.output_branch, folder, on_transfer)
    return RunReport(jobs, tuple(applied), tuple(reports), time.monotonic() - started)


def _put_and_apply(
    paddock: Paddock,
    puts: Mapping[str, Path],
    specs: Sequence[LoadedSpec],
    apply: Callable[[], list[AppliedPipeline]],
    on_transfer: OnTransfer | None,
) -> tuple[list[PutReport], list[AppliedPipeline]]:
    """Specs first, without jobs, so that the puts make one commit set of the whole, with the new versions."""
    for target in puts:
        ensure_repo(paddock, target.partition("@")[0])
    applied = apply()
    reports = _put_all(paddock, puts, on_transfer)
    for spec in specs:
        if any(has_head(paddock, f"{repo}@{branch}") for repo, branch in spec.reads):
            ensure_current(paddock, spec.address)
    return reports, applied


def _put_all(paddock: Paddock, puts: Mapping[str, Path], on_transfer: OnTransfer | None) -> list[PutReport]:
    """Mirror every folder into its branch, all in one commit set, so that no job sees one without the others."""
    if len(puts) < 2:
        return [
            paddock.files.put_tree(target, folder, mirror=True, on_transfer=on_transfer)
            for target, folder in puts.items()
        ]
    opened: list[Commit] = []
    try:
        reports = []
        for target, folder in puts.items():
            commit_set = opened[0].id if opened else None
            commit = paddock.commits.start(target, commit_set=commit_set, detached=True)
            opened.append(commit)
            place = f"{commit.project}/{commit.repo}@{commit.id}"
            reports.append(paddock.files.put_tree(place, folder, mirror=True, on_transfer=on_transfer))
        finished = {(commit.project, commit.repo) for commit in paddock.commits.finish_set(opened[0].id)}
    except BaseException:
        for commit in opened:
            paddock.commits.abandon(f"{commit.project}/{commit.repo}@{commit.id}")
        raise
    return [
        report if (commit.project, commit.repo) in finished else replace(report, commit=None, changed=0, removed=0)
        for commit, report in zip(opened, reports, strict=True)
    ]


def _planned_puts(specs: Sequence[LoadedSpec], inputs: Mapping[str, Path], default_project: str) -> dict[str, Path]:
    """{`project/repo@branch`: folder}, each checked against what the specs read."""
    read: dict[str, list[str]] = {}
    for spec in specs:
        for repo, branch in spec.reads:
            branches = read.setdefault(repo, [])
            if branch not in branches:
                branches.append(branch)
    puts: dict[str, Path] = {}
    problems: list[Problem] = []
    for name, folder in inputs.items():
        try:
            puts[_put_target(name, read, default_project)] = folder
        except InvalidInput as error:
            problems.append(Problem(f"--input {name}", error.message))
        if not folder.is_dir():
            problems.append(Problem(f"--input {name}", f"{folder} is not a folder; name one that exists"))
    if problems:
        raise InvalidInput("the inputs can't be put", problems=tuple(problems))
    return puts


def _put_target(name: str, read: Mapping[str, Sequence[str]], default_project: str) -> str:
    address = parse_address(name, default_project=default_project)
    repo = str(address.repo)
    if repo not in read:
        raise InvalidInput(f"no spec reads repo {repo}{nearest(repo, list(read))}; the specs read {', '.join(read)}")
    if "@" in name:
        return f"{repo}@{address.ref}"
    branches = read[repo]
    if len(branches) > 1:
        options = ", ".join(f"{repo}@{branch}" for branch in branches)
        raise InvalidInput(f"the specs read several branches of {repo}; name one: {options}")
    return f"{repo}@{branches[0]}"


def _planned_gets(
    specs: Sequence[LoadedSpec], outputs: Mapping[str, Path], default_project: str
) -> list[tuple[LoadedSpec, Path]]:
    by_name = {spec.address: spec for spec in specs}
    gets: list[tuple[LoadedSpec, Path]] = []
    problems: list[Problem] = []
    for name, folder in outputs.items():
        address = str(parse_repo(name, default_project=default_project))
        if address not in by_name:
            known = f"the specs make {', '.join(by_name)}{nearest(address, list(by_name))}"
            problems.append(Problem(f"--output {name}", f"no spec makes pipeline {address}; {known}"))
        elif folder.exists() and not folder.is_dir():
            problems.append(Problem(f"--output {name}", f"{folder} is not a folder; name another"))
        else:
            gets.append((by_name[address], folder))
    if problems:
        raise InvalidInput("the outputs can't be copied out", problems=tuple(problems))
    return gets


def _check_repos(paddock: Paddock, specs: Sequence[LoadedSpec], put: set[str]) -> None:
    """Every repo that is read is put, made by a spec, or there; nothing is put into what a pipeline makes."""
    made = {spec.address for spec in specs}
    for repo in sorted(put & made):
        raise Conflict(f"repo {repo} is the output of pipeline {repo}, and only its jobs write there; drop its --input")
    for spec in specs:
        for repo, _ in spec.reads:
            if repo in made or repo in put or repo_exists(paddock, repo):
                continue
            short = repo.removeprefix(f"{DEFAULT_PROJECT}/")
            raise NotFound(
                f"pipeline {spec.address} reads repo {repo}, which does not exist; give its data with"
                f" --input {short}=FOLDER, or make it with `paddock repo create {short}`"
            )


def _check_running(paddock: Paddock, specs: Sequence[LoadedSpec]) -> None:
    wanted = {spec.address for spec in specs}
    for pipeline in paddock.pipelines.list():
        name = f"{pipeline.project}/{pipeline.name}"
        if name in wanted and pipeline.state is PipelineState.STOPPED:
            raise Conflict(f"pipeline {name} is stopped; start it with `paddock pipeline start {name}`")
