"""Errors as RFC 9457 problem documents, `application/problem+json`."""

import logging
import math
from typing import Any

from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_problem.error import Problem, ServerProblem
from fastapi_problem.handler import add_exception_handler, new_exception_handler
from starlette.exceptions import HTTPException

from quakestream.errors import BundleError, QuakestreamError, RequestError, StorageError
from quakestream.redaction import redacted, without_credentials
from serving.jobs import FullError
from serving.processes import LargeAreaError
from serving.services import BusyError

OGC = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
"""Prefix of the error types of OGC API – Processes."""
log = logging.getLogger("quakestream.serving")
RETRY_S = 10
UNAUTHORIZED = "no valid token"
FAILED = "the service failed"
NOT_JSON = "send JSON with the header `Content-Type: application/json`, got {}"


def no_such(what: str, name: str, ogc_type: str = "") -> Problem:
    """404 for a process, job or run that is not there, or that the caller may not see."""
    type_ = f"{OGC}{ogc_type}" if ogc_type else f"no-such-{what}"
    return Problem(f"no such {what}", type_=type_, status=404, detail=f"{what} {name[:80]!r}")


def forbidden(detail: str) -> Problem:
    return Problem("not allowed", type_="forbidden", status=403, detail=detail)


def invalid(title: str, where: str, **fields: Any) -> Problem:
    """400 for a value of the request that is wrong."""
    return Problem(title, type_="invalid-request", status=400, where=where, **fields)


def too_large(what: str, limit: str, got: str) -> Problem:
    return Problem(
        f"{what} is too large", type_="too-large", status=413, detail=f"at most {limit}, got {got}"
    )


def too_many(title: str, wait_s: float, detail: str = "") -> Problem:
    """429: the request is right, and may be sent again after a while."""
    headers = {"Retry-After": str(math.ceil(wait_s))}
    return Problem(title, type_="too-many-requests", status=429, detail=detail, headers=headers)


def busy(detail: str, retry_s: int = RETRY_S) -> Problem:
    """503: the service has more to do than it can hold."""
    headers = {"Retry-After": str(retry_s)}
    return Problem("busy", type_="busy", status=503, detail=detail, headers=headers)


def problem_of(error: QuakestreamError) -> Problem:
    """The document of an error of the library; its texts hold no secret."""
    facts = error.problem
    fields = {"where": facts.where, "expected": facts.expected, "got": facts.got}
    shown: dict[str, Any] = {name: redacted(text) for name, text in fields.items() if text}
    if isinstance(error, FullError):
        return too_many(facts.what, RETRY_S, without_credentials(str(facts)))
    status = 400 if isinstance(error, RequestError) and not isinstance(error, BundleError) else 500
    if isinstance(error, StorageError):
        status = 503
    if status >= 500:  # paths and causes of the machine are for its log
        log.error("%s %s", _request_urn(), without_credentials(str(error)))
        return _failed(status)
    if isinstance(error, LargeAreaError):
        return too_large("the area", facts.expected.removeprefix("at most "), facts.got)
    if facts.remedy:
        shown["remedy"] = redacted(facts.remedy)
    return Problem(redacted(facts.what), type_="invalid-request", status=400, **shown)


def answer_with_problems(app: FastAPI) -> None:
    """Makes an application answer every error with a problem document."""

    def library(_: Any, __: Request, error: QuakestreamError) -> Problem:
        return problem_of(error)

    def waiting(_: Any, __: Request, error: BusyError) -> Problem:
        return busy(error.what, error.retry_s)

    def validation(_: Any, request: Request, error: RequestValidationError) -> Problem:
        wrong = [
            {"where": ".".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors()[:20]
        ]
        got = request.headers.get("content-type", "no Content-Type")
        if [w["where"] for w in wrong] == ["body"] and "json" not in got:  # as curl -d sends it
            wrong = [{"where": "body", "what": NOT_JSON.format(got[:80])}]
        return Problem(
            "the request is not as described", type_="invalid-request", status=400, errors=wrong
        )

    handler = new_exception_handler(
        pre_hooks=[_note],
        unhandled_wrappers={"default": _Unforeseen},
        handlers={
            QuakestreamError: library,
            BusyError: waiting,
        },
        request_validation_handler=validation,
    )
    add_exception_handler(app, handler)
    app.add_exception_handler(QuakestreamError, handler)
    app.add_exception_handler(BusyError, handler)


FORESEEN = (Problem, HTTPException, QuakestreamError, BusyError, RequestValidationError)


def _note(request: Request, error: Exception) -> None:
    """Logs what nobody foresaw. What was foreseen tells the client all there is to say."""
    if not isinstance(error, FORESEEN):
        what = f"{request.method} {request.url.path}"
        log.error("%s %s failed", _request_urn(), what, exc_info=error)


def _request_urn() -> str:
    """Name of the request under way: the header `X-Correlation-ID` as a URI."""
    return f"urn:uuid:{correlation_id.get()}"


def _failed(status: int) -> Problem:
    """A document without the cause, which may hold anything; the log has it by `instance`."""
    return Problem(FAILED, type_="failed", status=status, instance=_request_urn())


class _Unforeseen(ServerProblem):
    """500 for what nobody foresaw. It takes the text of the exception, and says nothing of it."""

    type_, title = "failed", FAILED

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__(instance=_request_urn())
