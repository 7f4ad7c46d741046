"""Refusals as the API server words them: a `Status` object with code, reason and details."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object, as its JSON."""


class RefusedError(Exception):
    """The answer to a request that is not served."""

    def __init__(
        self, code: int, reason: str, message: str, *, causes: list[dict[str, str]] | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.causes = causes or []
        self.retry_after = retry_after

    def status(self) -> Object:
        details: Object = {"causes": self.causes} if self.causes else {}
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": details,
            "code": self.code,
        }


def not_found(resource: str, name: str) -> RefusedError:
    return RefusedError(404, "NotFound", f'{resource} "{name}" not found')


def conflict(resource: str, name: str, why: str) -> RefusedError:
    return RefusedError(409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": {why}')


def invalid(kind: str, name: str, field: str, why: str) -> RefusedError:
    cause = {"reason": "FieldValueInvalid", "field": field, "message": why}
    return RefusedError(422, "Invalid", f'{kind} "{name}" is invalid: {field}: {why}', causes=[cause])


def forbidden(resource: str, name: str, why: str) -> RefusedError:
    return RefusedError(403, "Forbidden", f'{resource} "{name}" is forbidden: {why}')


def expired(why: str) -> RefusedError:
    return RefusedError(410, "Expired", why)
