"""`paddock commit …`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from paddock.cli import output
from paddock.cli.lazy import group_app
from paddock.cli.options import Description, Json, Limit
from paddock.cli.session import session_of
from paddock.model.ids import is_commit_id
from paddock.model.records import Commit, CommitSet

app = group_app("Immutable trees of files, and commit sets.")
Name = Annotated[str, typer.Argument(metavar="REPO@REF", help="A commit: branch, id or ancestor of one.")]
Target = Annotated[str, typer.Argument(metavar="COMMIT", help="REPO@REF, or the id of a commit set.")]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Also all that was computed from it.")]
LIST_LIMIT = 100


@app.command("start")
def start(
    context: typer.Context,
    branch: Annotated[str, typer.Argument(metavar="REPO@BRANCH", help="The branch; made if missing.")],
    description: Description = "",
    commit_set: Annotated[
        str | None, typer.Option("--set", metavar="ID", help="Join this set of open commits in other repos.")
    ] = None,
    detached: Annotated[
        bool, typer.Option("--detached", help="Keep the branch as it is; puts name the commit: REPO@ID.")
    ] = False,
    json: Json = False,
) -> None:
    """Open a commit; puts to the branch go into it until it is finished."""
    session = session_of(context)
    commit = session.paddock.commits.start(
        session.name(branch), description=description, commit_set=commit_set, detached=detached
    )
    _show(commit, json, "started")


@app.command("finish")
def finish(
    context: typer.Context,
    commit: Annotated[str, typer.Argument(metavar="REPO@REF|SET", help="An open commit, or the id of a set of them.")],
    description: Annotated[
        str | None, typer.Option("--description", "-d", help="Replace the commit's description.")
    ] = None,
    json: Json = False,
) -> None:
    """Finish an open commit, or all of a set; downstream jobs are made in the same moment."""
    session = session_of(context)
    if is_commit_id(commit):
        together = session.paddock.commits.finish_set(commit)
        if json:
            output.document(together)
            return
        for each in together:
            _show(each, False, "finished")
        return
    finished = session.paddock.commits.finish(session.name(commit), description=description)
    _show(finished, json, "finished")


@app.command("abandon")
def abandon(context: typer.Context, commit: Name, json: Json = False) -> None:
    """Remove an open commit with all that was written to it."""
    session = session_of(context)
    session.paddock.commits.abandon(session.name(commit))
    if json:
        output.document({"abandoned": session.name(commit)})
    else:
        output.line(f"abandoned the open commit {commit}")


@app.command("squash")
def squash(context: typer.Context, target: Target, recursive: Recursive = False, json: Json = False) -> None:
    """Take a commit, or all of a set, out of history; later commits stay as they are.

    Refused where no later commit holds its files, where a branch or tag reads it, or where others were computed from it.
    """
    session = session_of(context)
    removed = session.paddock.commits.squash(_named(context, target), recursive=recursive)
    _show_taken(removed, json, "squashed")


@app.command("drop")
def drop(context: typer.Context, target: Target, recursive: Recursive = False, json: Json = False) -> None:
    """Remove the newest commit of a branch, or all of a set; the branch then reads the one before.

    Refused where a later commit is built on it, where a tag names it, or where others were computed from it.
    """
    session = session_of(context)
    removed = session.paddock.commits.drop(_named(context, target), recursive=recursive)
    _show_taken(removed, json, "dropped")


@app.command("forget")
def forget(context: typer.Context, target: Target, json: Json = False) -> None:
    """Give up the files of an output commit, or of all those of a set; what is known about it stays.

    Refused for commits that users made, that a branch or tag reads, or that a job is still to read.
    """
    session = session_of(context)
    _show_taken(session.paddock.commits.forget(_named(context, target)), json, "forgot the files of")


@app.command("list")
def list_(
    context: typer.Context,
    repo: Annotated[str, typer.Argument(metavar="REPO[@REF]", help="A repo; with a ref, it and its ancestors.")],
    limit: Limit = LIST_LIMIT,
    json: Json = False,
) -> None:
    """List commits, newest first."""
    session = session_of(context)
    show_commits(session.paddock.commits.list(session.name(repo), limit=limit), json)


@app.command("inspect")
def inspect(
    context: typer.Context,
    commit: Name,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Wait up to so many seconds until it is finished.")] = 0,
    json: Json = False,
) -> None:
    """Show one commit."""
    session = session_of(context)
    found = session.paddock.commits.inspect(session.name(commit), wait_seconds=wait)
    if json:
        output.document(found)
    else:
        output.fields(_fields(found))


@app.command("set")
def set_(
    context: typer.Context,
    commit_set: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A commit set; without one, the newest are listed.")
    ] = None,
    limit: Limit = LIST_LIMIT,
    json: Json = False,
) -> None:
    """Show a commit set: one change and everything computed from it, across repos."""
    session = session_of(context)
    if commit_set is None:
        sets = session.paddock.commits.list_sets(limit=limit)
        if json:
            output.document(sets)
        else:
            _list_sets(sets)
        return
    found = session.paddock.commits.inspect_set(_set_id(commit_set, session.name(commit_set), context))
    if json:
        output.document(found)
        return
    show_commits(found.commits, False)
    rows = (
        (output.short_name(job.project, job.pipeline), job.state.value, job.datums.total, job.reason)
        for job in found.jobs
    )
    output.line("")
    output.table(("pipeline", "job", "datums", "reason"), rows, empty="no jobs")


def _named(context: typer.Context, target: str) -> str:
    """A commit's whole address; the id of a set as it is."""
    return session_of(context).name(target) if "@" in target else target


def _show_taken(commits: Sequence[Commit], json: bool, verb: str) -> None:
    if json:
        output.document(commits)
        return
    for commit in commits:
        output.line(f"{verb} commit {output.short_name(commit.project, commit.repo)}@{commit.id}")


def _set_id(text: str, address: str, context: typer.Context) -> str:
    """The id itself, or that of the commit which `repo@ref` names."""
    if is_commit_id(text) or "@" not in text:
        return text
    return session_of(context).paddock.commits.inspect(address).id


def _list_sets(sets: list[CommitSet] | tuple[CommitSet, ...] | object) -> None:
    assert isinstance(sets, (list, tuple))
    rows = (
        (
            item.id,
            output.moment(item.created),
            ", ".join(output.short_name(commit.project, commit.repo) for commit in item.commits),
        )
        for item in sets
    )
    output.table(("id", "created", "repos"), rows, empty="no commits yet")


def show_commits(commits: object, json: bool) -> None:
    """A table of commits, or their JSON."""
    assert isinstance(commits, (list, tuple))
    if json:
        output.document(commits)
        return
    rows = (
        (
            output.short_name(commit.project, commit.repo),
            commit.branch,
            commit.id,
            commit.state.value,
            commit.files,
            output.size(commit.size_bytes),
            output.moment(commit.finished or commit.created),
            commit.error or commit.description,
        )
        for commit in commits
    )
    headers = ("repo", "branch", "commit", "state", "files", "size", "time", "description")
    output.table(headers, rows, empty="no commits yet")


def _show(commit: Commit, json: bool, verb: str) -> None:
    if json:
        output.document(commit)
    else:
        output.line(f"{verb} commit {output.short_name(commit.project, commit.repo)}@{commit.id} on {commit.branch}")


def _fields(commit: Commit) -> tuple[tuple[str, object], ...]:
    return (
        ("commit", f"{commit.project}/{commit.repo}@{commit.id}"),
        ("branch", commit.branch),
        ("state", commit.state.value),
        ("error", commit.error),
        ("origin", commit.origin.value),
        ("description", commit.description),
        ("parent", commit.parent),
        ("tree", commit.tree),
        ("files", str(commit.files)),
        ("size", output.size(commit.size_bytes)),
        ("provenance", ", ".join(commit.provenance)),
        ("created", output.moment(commit.created)),
        ("finished", output.moment(commit.finished)),
    )
