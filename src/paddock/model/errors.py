"""The one error tree, cut by what the caller can do about it.

    PaddockError
    ├── InvalidInput      fix the input: a spec, an address, a path, an option
    ├── NotFound          name something that exists, or create it
    ├── AlreadyExists     choose another name, or use what is there
    ├── Conflict          the state forbids it now; the message says what stands in the way
    ├── PermissionDenied  ask for access
    ├── LimitExceeded     ask for less, or raise the named limit (a full disk is one)
    ├── Unavailable       try again: the cause is passing
    ├── Corrupt           never try again: stored bytes are damaged or missing
    ├── UserCodeFailed    mend the user's command; its datum is named
    └── Bug               a broken invariant of Paddock; report it

Every message names the object, what is wrong with it, and the next step. One table here maps each class to
an exit code and an HTTP status; nothing else in the product knows either.
"""

from __future__ import annotations

from paddock.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input.

    place: where, as the user sees it (`pipeline.yaml:7`, `input.cross[0].pfs.glob`). message: what and what next.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class PaddockError(Exception):
    """Base of all errors that users meet. `str(error)` is the whole message, without a traceback."""

    code = "error"
    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.problems = problems

    def __str__(self) -> str:
        lines = [self.message, *(f"  {problem}" for problem in self.problems)]
        return "\n".join(lines)


class InvalidInput(PaddockError):
    """The input is wrong; `problems` lists every fault found, not only the first. Nothing was changed."""

    code = "invalid-input"
    exit_code = 3
    http_status = 422


class NotFound(PaddockError):
    """The named object does not exist. Nothing was changed."""

    code = "not-found"
    exit_code = 4
    http_status = 404


class AlreadyExists(PaddockError):
    """An object of that name exists already. Nothing was changed."""

    code = "already-exists"
    exit_code = 5
    http_status = 409


class Conflict(PaddockError):
    """The present state forbids the operation; the message names what stands in the way. Nothing was changed."""

    code = "conflict"
    exit_code = 6
    http_status = 409


class PermissionDenied(PaddockError):
    """The caller (or this process) may not do that. Nothing was changed."""

    code = "permission-denied"
    exit_code = 7
    http_status = 403


class LimitExceeded(PaddockError):
    """A limit was reached: disk space, a size, a count. What was committed before stays."""

    code = "limit-exceeded"
    exit_code = 8
    http_status = 413


class Unavailable(PaddockError):
    """A passing fault; the same call may succeed later. The only class that is retried."""

    code = "unavailable"
    exit_code = 9
    http_status = 503


class Corrupt(PaddockError):
    """Stored bytes are damaged or missing; the message names the object. Never retried."""

    code = "corrupt"
    exit_code = 10
    http_status = 500


class UserCodeFailed(PaddockError):
    """A job failed because of the user's command or its outputs. Successful datums are kept."""

    code = "user-code-failed"
    exit_code = 11
    http_status = 422


class Bug(PaddockError):
    """An invariant of Paddock does not hold. Nothing that was committed is lost."""

    code = "bug"
    exit_code = 12
    http_status = 500


EXIT_WRONG_USAGE = 2
EXIT_INTERRUPTED = 130

ERROR_CLASSES: tuple[type[PaddockError], ...] = (
    InvalidInput,
    NotFound,
    AlreadyExists,
    Conflict,
    PermissionDenied,
    LimitExceeded,
    Unavailable,
    Corrupt,
    UserCodeFailed,
    Bug,
)


def error_of_code(code: str, message: str, problems: tuple[Problem, ...] = ()) -> PaddockError:
    """Rebuild an error from its wire form (problem+json); an unknown code becomes `Bug`."""
    for error_class in ERROR_CLASSES:
        if error_class.code == code:
            return error_class(message, problems=problems)
    return Bug(message, problems=problems)
