"""Errors of `obstore` as Paddock's own: the one place that knows its exceptions.

obstore has one class, `GenericError`, for all that it did not sort itself; what the store answered (status, code, message) is
only in its text. It is read here, so that nobody else has to, and what is not understood counts as passing.
"""

from __future__ import annotations

import re

from obstore import exceptions

from paddock.model.errors import (
    AlreadyExists,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PaddockError,
    PermissionDenied,
    Unavailable,
)

_STATUS = re.compile(r"status code: (\d{3})")
_ANSWER = re.compile(r"<Code>([^<]+)</Code>(?:\s*<Message>([^<]*)</Message>)?")
_PLEASE = re.compile(r",? please try again\b\.?", re.IGNORECASE)
"""The messages here say it themselves."""
_QUERY = re.compile(r"\?\S*")
_PASSING_STATUS = frozenset({404, 408, 409, 412, 416, 425, 429})
"""Of the 4xx: these say nothing about the request as such, which is as right or wrong the next time."""
_SERVER_FAULT = 500
_FULL_CODES = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"})
_METADATA_SERVICES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")


def translate(error: Exception, action: str, key: str, store: str) -> PaddockError:
    """The Paddock error for one of obstore's, met while trying to `action` (a verb, "write") object `key` of `store` (a URL).

    Raise it `from error`. No credential gets into the message: URLs lose their query.
    """
    text = str(error)
    code, cause = _cause(text)
    where = f"{store.rstrip('/')}/{key}" if key else store
    if code == "NoSuchBucket" or code == "ContainerNotFound":
        return NotFound(f"can't {action} {where}: the bucket does not exist; create it, or name another")
    if code == "NoSuchUpload":
        return Unavailable(f"can't {action} {where}: the store has forgotten the upload; try again")
    if code == "RequestTimeTooSkewed":
        return PermissionDenied(
            f"can't {action} {where}: the store refuses it, since this machine's clock is wrong; set it (NTP)"
        )
    match error:
        case FileNotFoundError():
            return NotFound(f"object {key} does not exist in {store}")
        case exceptions.AlreadyExistsError() | exceptions.PreconditionError():
            return AlreadyExists(f"object {key} exists already in {store}; objects never change")
        case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError():
            return PermissionDenied(
                f"can't {action} {where}: the store refuses it ({cause}); check the credentials and their rights"
            )
        case ValueError() | exceptions.InvalidPathError() | exceptions.NotSupportedError():
            return InvalidInput(f"can't {action} {where}: {cause}")
        case exceptions.UnknownConfigurationKeyError():
            return InvalidInput(f"can't open {store}: {cause}; check the variables that configure it")
        case _:
            return _by_answer(text, code, cause, f"can't {action} {where}")


def is_past_end(error: Exception) -> bool:
    """Whether the store refused a range because the object ends before it."""
    return isinstance(error, exceptions.GenericError) and _status(str(error)) == 416


def _by_answer(text: str, code: str, cause: str, failed: str) -> PaddockError:
    if any(service in text for service in _METADATA_SERVICES):
        return PermissionDenied(
            f"{failed}: no credentials were found; set those of the store (for S3, AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
        )
    status = _status(text)
    if code in _FULL_CODES or status == 507:
        return LimitExceeded(f"{failed}: the store has no room for it ({cause}); free some, or raise its quota")
    if status is not None and 300 <= status < 500 and status not in _PASSING_STATUS:
        return InvalidInput(
            f"{failed}: the store does not accept the request ({cause}); check the URL, the endpoint and the region"
        )
    advice = "try again"
    if status is not None and status >= _SERVER_FAULT:
        # Tried for a while already. A store that has run out of room often says no more than this.
        advice = "try again; if that fails too, look at the store: its log, and whether it has room"
    return Unavailable(f"{failed}: {cause}; {advice}")


def _status(text: str) -> int | None:
    found = _STATUS.search(text)
    return int(found[1]) if found else None


def _cause(text: str) -> tuple[str, str]:
    """The store's error code, where it named one, and a line for people."""
    answer = _ANSWER.search(text)
    if answer is not None:
        said = _PLEASE.sub("", answer[2] or "").rstrip(". ")
        return answer[1], f"{answer[1]}: {said}" if said else answer[1]
    line = text.split("\n\nDebug source", 1)[0].split("\n", 1)[0]
    status = _STATUS.search(line)
    if status is not None:
        return "", f"it answers {line[status.start(1) :].rstrip(': ')}"
    return "", _QUERY.sub("", line).rstrip(". ")
