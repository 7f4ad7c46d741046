"""Errors as `application/problem+json` (RFC 9457): the whole error tree, with every problem of an input."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from paddock.model.errors import Bug, InvalidInput, NotFound, PaddockError, Problem, Unavailable


class ProblemPlace(BaseModel):
    place: str
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457, with the error's class in `code` and every fault of an input in `problems`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    problems: list[ProblemPlace] = []


PROBLEM_MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger("paddock.api")


def problem_document(error: PaddockError) -> dict[str, Any]:
    """What a client needs to rebuild the error: `code` is its class, `detail` its message."""
    return {
        "type": f"urn:paddock:error:{error.code}",
        "title": type(error).__name__,
        "status": error.http_status,
        "code": error.code,
        "detail": error.message,
        "problems": [{"place": problem.place, "message": problem.message} for problem in error.problems],
    }


def problem_response(error: PaddockError, status: int | None = None) -> JSONResponse:
    document = problem_document(error)
    code = status or error.http_status
    return JSONResponse(document | {"status": code}, status_code=code, media_type=PROBLEM_MEDIA_TYPE)


def add_error_handlers(app: FastAPI) -> None:
    """Make every failure of a request answer with a problem document, never with a bare text or a traceback."""
    app.add_exception_handler(PaddockError, _paddock_error)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _unexpected)


async def _paddock_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PaddockError)
    return problem_response(error)


async def _client_gone(request: Request, error: Exception) -> JSONResponse:
    """Nobody reads this answer: it is for the log, where an end that is nobody's fault needs no traceback."""
    return problem_response(Unavailable(f"the client of {request.method} {request.url.path} went away"))


async def _wrong_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = tuple(Problem(".".join(str(part) for part in item["loc"]), str(item["msg"])) for item in error.errors())
    message = f"{request.method} {request.url.path} has wrong parameters; /docs describes them"
    return problem_response(InvalidInput(message, problems=problems))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(NotFound(f"there is no {request.url.path} here; /docs lists what there is"))
    message = f"{request.method} {request.url.path}: {error.detail}; /docs lists what there is"
    return problem_response(InvalidInput(message), error.status_code)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    what = f"{request.method} {request.url.path}"
    return problem_response(Bug(f"{what} failed unexpectedly ({type(error).__name__}); see the server's log"))
