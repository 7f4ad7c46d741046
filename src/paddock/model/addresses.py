"""Addresses: `[project/]repo@branch-or-commit[:/path]`, with ancestry. Pure parsing; nothing is looked up here."""

from __future__ import annotations

import re

from paddock.model.dataclass import dataclass
from paddock.model.errors import InvalidInput
from paddock.model.ids import CommitId, is_commit_id
from paddock.model.limits import NAME_LENGTH_MAX, PATH_BYTES_MAX
from paddock.model.records import DEFAULT_BRANCH, DEFAULT_PROJECT

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REF = re.compile(r"(?P<name>[A-Za-z0-9_-]+)(?P<ancestry>(?:[\^~.]-?\d*)*)")
_STEP = re.compile(r"(?P<sign>[\^~.])(?P<count>-?\d*)")


@dataclass(frozen=True, slots=True)
class RepoAddress:
    project: str
    repo: str

    def __str__(self) -> str:
        return f"{self.project}/{self.repo}"


@dataclass(frozen=True, slots=True)
class Step:
    """One ancestry step. kind `back`: `count` commits towards the root; `forward`: the count-th from the root."""

    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a commit id, then ancestry steps applied from left to right."""

    name: str
    steps: tuple[Step, ...] = ()

    @property
    def commit_id(self) -> CommitId | None:
        return CommitId(self.name) if is_commit_id(self.name) else None

    def __str__(self) -> str:
        marks = {"back": "^", "forward": "."}
        return self.name + "".join(f"{marks[step.kind]}{step.count}" for step in self.steps)


@dataclass(frozen=True, slots=True)
class Address:
    """A repo, a ref in it and, where one was given, a path."""

    repo: RepoAddress
    ref: Ref
    path: str | None = None

    def __str__(self) -> str:
        path = "" if self.path is None else f":{self.path}"
        return f"{self.repo}@{self.ref}{path}"


def check_name(kind: str, name: str) -> str:
    """Return `name` if it may name a project, repo, branch, pipeline or input; raise InvalidInput if not."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{kind} name {name!r} is invalid: use letters, digits, '_' and '-' only, and at least one of them"
        )
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidInput(
            f"{kind} name {name!r} is {len(name)} characters long; at most {NAME_LENGTH_MAX} are allowed"
        )
    if kind == "branch" and is_commit_id(name):
        raise InvalidInput(f"branch name {name!r} looks like a commit id; choose another name")
    return name


def check_path(path: str) -> str:
    """Return the canonical form of an absolute path: `/a/b`; the root is `/`.

    A missing leading slash is added and one trailing slash is dropped. Empty parts, `.`, `..`, NUL, text that is not
    UTF-8 and paths of more than 4096 bytes raise InvalidInput.
    """
    if path in ("", "/"):
        return "/"
    body = path.removeprefix("/").removesuffix("/")
    for part in body.split("/"):
        if part == "":
            raise InvalidInput(f"path {path!r} has an empty part; write each '/' once")
        if part in (".", ".."):
            raise InvalidInput(f"path {path!r} contains {part!r}; paths are absolute and have no '.' or '..' parts")
    if "\0" in body:
        raise InvalidInput(f"path {path!r} contains a NUL character; remove it")
    try:
        length = len(body.encode("utf-8")) + 1
    except UnicodeEncodeError:
        raise InvalidInput(f"path {path!r} is not valid UTF-8; rename the file") from None
    if length > PATH_BYTES_MAX:
        raise InvalidInput(f"path {path[:60]!r}… is {length} bytes long; at most {PATH_BYTES_MAX} are allowed")
    return "/" + body


def parse_repo(text: str, *, default_project: str = DEFAULT_PROJECT) -> RepoAddress:
    """Parse `[project/]repo`."""
    project, slash, repo = text.rpartition("/")
    if not slash:
        project = default_project
    return RepoAddress(check_name("project", project), check_name("repo", repo))


def parse_ref(text: str) -> Ref:
    """Parse `main`, `main^`, `main^^`, `main~3`, `main.2`, `<commit id>^2`."""
    match = _REF.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text!r} is not a branch or commit; write for example main, main^, main.2 or a commit id")
    steps: list[Step] = []
    for step in _STEP.finditer(match["ancestry"]):
        count = int(step["count"]) if step["count"] not in ("", "-") else 1
        forward = step["sign"] == "."
        if count < 0:
            forward, count = not forward, -count
        if count > 0:
            steps.append(Step("forward" if forward else "back", count))
    return Ref(match["name"], tuple(steps))


def parse_address(
    text: str, *, default_project: str = DEFAULT_PROJECT, default_ref: str | None = DEFAULT_BRANCH
) -> Address:
    """Parse `[project/]repo[@ref][:/path]`; a missing ref becomes `default_ref`, or an error where that is None."""
    if not text:
        raise InvalidInput("the address is empty; write [project/]repo@branch-or-commit[:/path]")
    head, colon, path = text.partition(":")
    repo_text, at, ref_text = head.partition("@")
    try:
        repo = parse_repo(repo_text, default_project=default_project)
        if at:
            ref = parse_ref(ref_text)
        elif default_ref is not None:
            ref = Ref(default_ref)
        else:
            raise InvalidInput("name a branch or commit after '@'")
    except InvalidInput as error:
        raise InvalidInput(
            f"address {text!r} does not parse: {error.message}. The form is [project/]repo@branch-or-commit[:/path]"
        ) from None
    return Address(repo, ref, check_path(path) if colon else None)


def target_path(target: str, name: str | None = None) -> str:
    """The path that a put to an address writes at. `name`: of the source, where that is a single file: it goes below a path that
    ends in `/` or is the root."""
    path = parse_address(target).path or "/"
    if name is not None and (path == "/" or target.endswith("/")):
        return check_path(f"{path.removesuffix('/')}/{name}")
    return path
