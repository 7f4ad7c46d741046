"""Projects, repos, branches and commits over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.client.transport import Transport, path_of
from paddock.model.addresses import check_name, parse_address, parse_repo
from paddock.model.dataclass import dataclass
from paddock.model.records import Branch, Commit, CommitSet, Project, Repo

WAIT_STEP_SECONDS = 20.0
"""A long wait is asked for in steps, so that no request outlives a proxy's idle limit."""


def repo_path(repo: str, *rest: str) -> str:
    address = parse_repo(repo)
    return path_of("repos", address.project, address.repo, *rest)


def branch_path(branch: str, *rest: str) -> str:
    address = parse_address(branch, default_ref=None)
    return path_of("repos", address.repo.project, address.repo.repo, "branches", str(address.ref), *rest)


def commit_path(commit: str, *rest: str) -> str:
    address = parse_address(commit)
    return path_of("repos", address.repo.project, address.repo.repo, "commits", str(address.ref), *rest)


@dataclass(frozen=True, slots=True)
class HttpProjects:
    transport: Transport

    def create(self, name: str, *, description: str = "") -> Project:
        body = {"name": name, "description": description}
        result: Project = self.transport.request(Project, "POST", path_of("projects"), body=body)
        return result

    def list(self) -> Sequence[Project]:
        result: tuple[Project, ...] = self.transport.request(tuple[Project, ...], "GET", path_of("projects"))
        return result

    def inspect(self, name: str) -> Project:
        path = path_of("projects", check_name("project", name))
        result: Project = self.transport.request(Project, "GET", path)
        return result

    def delete(self, name: str) -> None:
        self.transport.request(None, "DELETE", path_of("projects", check_name("project", name)))


@dataclass(frozen=True, slots=True)
class HttpRepos:
    transport: Transport

    def create(self, repo: str, *, description: str = "") -> Repo:
        body = {"repo": repo, "description": description}
        result: Repo = self.transport.request(Repo, "POST", path_of("repos"), body=body)
        return result

    def list(self, *, project: str | None = None) -> Sequence[Repo]:
        parameters = {"project": project}
        result: tuple[Repo, ...] = self.transport.request(
            tuple[Repo, ...], "GET", path_of("repos"), parameters=parameters
        )
        return result

    def inspect(self, repo: str) -> Repo:
        result: Repo = self.transport.request(Repo, "GET", repo_path(repo))
        return result

    def delete(self, repo: str) -> None:
        self.transport.request(None, "DELETE", repo_path(repo))


@dataclass(frozen=True, slots=True)
class HttpBranches:
    transport: Transport

    def create(self, branch: str, *, head: str | None = None, provenance: Sequence[str] = ()) -> Branch:
        body = {"head": head, "provenance": [*provenance]}
        result: Branch = self.transport.request(Branch, "PUT", branch_path(branch), body=body)
        return result

    def list(self, repo: str) -> Sequence[Branch]:
        path = repo_path(repo, "branches")
        result: tuple[Branch, ...] = self.transport.request(tuple[Branch, ...], "GET", path)
        return result

    def inspect(self, branch: str) -> Branch:
        result: Branch = self.transport.request(Branch, "GET", branch_path(branch))
        return result

    def delete(self, branch: str) -> None:
        self.transport.request(None, "DELETE", branch_path(branch))


@dataclass(frozen=True, slots=True)
class HttpCommits:
    transport: Transport

    def start(
        self, branch: str, *, description: str = "", commit_set: str | None = None, detached: bool = False
    ) -> Commit:
        body = {"description": description, "commit_set": commit_set, "detached": detached}
        result: Commit = self.transport.request(Commit, "POST", branch_path(branch, "commits"), body=body)
        return result

    def finish(self, commit: str, *, description: str | None = None) -> Commit:
        body = {"description": description}
        result: Commit = self.transport.request(Commit, "POST", commit_path(commit, "finish"), body=body)
        return result

    def finish_set(self, commit_set: str) -> Sequence[Commit]:
        path = path_of("commit-sets", commit_set, "finish")
        result: tuple[Commit, ...] = self.transport.request(tuple[Commit, ...], "POST", path)
        return result

    def abandon(self, commit: str) -> None:
        self.transport.request(None, "DELETE", commit_path(commit))

    def squash(self, commit: str, *, recursive: bool = False) -> Sequence[Commit]:
        return self._take_out(commit, "squash", recursive)

    def drop(self, commit: str, *, recursive: bool = False) -> Sequence[Commit]:
        return self._take_out(commit, "drop", recursive)

    def forget(self, commit: str) -> Sequence[Commit]:
        return self._take_out(commit, "forget", None)

    def _take_out(self, commit: str, how: str, recursive: bool | None) -> Sequence[Commit]:
        path = commit_path(commit, how) if "@" in commit else path_of("commit-sets", commit, how)
        parameters = {"recursive": recursive}
        result: tuple[Commit, ...] = self.transport.request(tuple[Commit, ...], "POST", path, parameters=parameters)
        return result

    def list(self, repo: str, *, limit: int | None = None) -> Sequence[Commit]:
        path = repo_path(repo.partition("@")[0], "commits")
        ref = str(parse_address(repo).ref) if "@" in repo else None
        result: tuple[Commit, ...] = self.transport.request(
            tuple[Commit, ...], "GET", path, parameters={"ref": ref, "limit": limit}
        )
        return result

    def inspect(self, commit: str, *, wait_seconds: float = 0) -> Commit:
        path, left = commit_path(commit), wait_seconds
        while True:
            step = min(left, WAIT_STEP_SECONDS)
            result: Commit = self.transport.request(Commit, "GET", path, parameters={"wait_seconds": step})
            left -= step
            if left <= 0 or result.finished is not None:
                return result

    def inspect_set(self, commit_set: str) -> CommitSet:
        result: CommitSet = self.transport.request(CommitSet, "GET", path_of("commit-sets", commit_set))
        return result

    def list_sets(self, *, limit: int | None = None) -> Sequence[CommitSet]:
        result: tuple[CommitSet, ...] = self.transport.request(
            tuple[CommitSet, ...], "GET", path_of("commit-sets"), parameters={"limit": limit}
        )
        return result
