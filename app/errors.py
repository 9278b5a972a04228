"""What the service answers when something is wrong: one table from exception to status, one shape of body (RFC 9457).

Beside the trees of models/errors.py and worker/errors.py there is what only HTTP knows:

    RequestError               the request itself, before what it asks for is looked at
    ├── MalformedError         400  not JSON, not multipart, cut short
    ├── UnauthorizedError      401  no key, or an unknown one
    ├── ForbiddenError         403  a browser page of another site
    │   └── ScopeError         403  a key that does not allow this
    ├── NotAcceptableError     406
    ├── BodyTimeoutError       408  the body came too slowly
    ├── BodyTooLargeError      413
    ├── UnsupportedTypeError   415
    └── ValidationError        422  well formed, but a field is wrong; `errors` points at each

Exceptions of libraries are translated by `FOREIGN`. Codes are published in app/problems.py.
"""

import errno
import http
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from app.metrics import Metrics
from app.problems import TITLES
from models.errors import ArtifactError, InputError, SynesthesiaError, TrainingError, UnavailableError
from worker.errors import CapacityError, ConflictError, DependencyError, GoneError, NotFoundError, QuotaError, StateError, StorageFullError

PROBLEM_TYPE = "application/problem+json"
RETRY_LATER = frozenset({429, 503, 507})
INFERENCE_PREFIX = "/v2"  # addresses of the Open Inference Protocol
UNAVAILABLE_RETRY_SECONDS = 60  # what a machine lacks is put right by people, not within seconds

log = structlog.get_logger(__name__)


class RequestError(SynesthesiaError):
    """The request can't be taken as it came."""

    code = "bad_request"

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None, **details: Any) -> None:
        """`headers` go with the answer; `details` are those of SynesthesiaError."""
        super().__init__(message, **details)
        self.headers = dict(headers or {})


class MalformedError(RequestError):
    """The bytes of the body are not what they claim to be."""

    code = "malformed_json"


class UnauthorizedError(RequestError):
    """No key, or an unknown one."""

    code = "unauthorized"


class ForbiddenError(RequestError):
    """Known or open, but not from there."""

    code = "forbidden"


class ScopeError(ForbiddenError):
    """The key is known, and not for this."""

    code = "scope_insufficient"


class NotAcceptableError(RequestError):
    """None of the media types that the caller accepts can be made."""

    code = "not_acceptable"


class BodyTimeoutError(RequestError):
    """The body came more slowly than the service waits for."""

    code = "body_timeout"


class BodyTooLargeError(RequestError):
    """The body is larger than the route takes."""

    code = "body_too_large"


class UnsupportedTypeError(RequestError):
    """The body's media type is not one that the route takes."""

    code = "unsupported_media_type"


class ValidationError(RequestError):
    """Fields are missing, unknown or out of range; `errors` holds a JSON pointer and a sentence for each."""

    code = "validation_error"

    def __init__(self, errors: Sequence[Mapping[str, str]], message: str = "") -> None:
        """`errors` are `{"pointer", "detail"}`, at least one."""
        first = errors[0]
        super().__init__(message or f"{first['pointer'] or 'the body'}: {first['detail']}")
        self.errors = [dict(error) for error in errors]


# The most specific class that is listed wins. A test walks all trees and fails if a first-level class is missing.
STATUSES: dict[type[SynesthesiaError], int] = {
    InputError: 422,
    UnavailableError: 503,
    ArtifactError: 422,
    TrainingError: 500,
    StateError: 409,
    NotFoundError: 404,
    GoneError: 410,
    ConflictError: 409,
    CapacityError: 503,
    QuotaError: 429,
    StorageFullError: 507,
    RequestError: 400,
    MalformedError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotAcceptableError: 406,
    BodyTimeoutError: 408,
    BodyTooLargeError: 413,
    UnsupportedTypeError: 415,
    ValidationError: 422,
    SynesthesiaError: 500,
}
# Where the code says more than the class: bytes in no known format are a wrong media type, not a wrong value.
STATUS_OF_CODE = {"media_type_unsupported": 415, "route_not_found": 404, "method_not_allowed": 405, "range_not_satisfiable": 416}

_FRAMEWORK_CODES = {STATUS_OF_CODE[code]: code for code in ("route_not_found", "method_not_allowed", "range_not_satisfiable")}
_NO_ANSWER = "the service failed to answer this request; the log has the cause under this request_id"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def status_of(error: SynesthesiaError) -> int:
    """Return the HTTP status of `error`: by its code where that is listed, else by its closest listed class."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem_body(error: SynesthesiaError, *, instance: str, request_id: str) -> dict[str, Any]:
    """Return the members of RFC 9457 and ours for `error`; nothing of a traceback or a path of this machine."""
    status = status_of(error)
    body: dict[str, Any] = {
        "type": f"/problems#{error.code}",
        "title": TITLES.get(error.code, http.HTTPStatus(status).phrase),
        "status": status,
        "detail": error.message,
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
    }
    if error.hint:
        body["hint"] = error.hint
    errors = error.errors if isinstance(error, ValidationError) else _param_errors(error)
    if errors:
        body["errors"] = errors
    if instance.startswith(INFERENCE_PREFIX):
        body["error"] = error.message  # where clients of that protocol look for the sentence
    return body


def problem_headers(error: SynesthesiaError) -> dict[str, str]:
    """Return the headers that belong to `error`: Retry-After, WWW-Authenticate, Allow."""
    headers = dict(error.headers) if isinstance(error, RequestError) else {}
    status = status_of(error)
    if status in RETRY_LATER:
        headers["Retry-After"] = str(getattr(error, "retry_after", UNAVAILABLE_RETRY_SECONDS))
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def problem_message(error: SynesthesiaError, *, instance: str, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of `error` as they stand in ASGI's messages."""
    content = problem_body(error, instance=instance, request_id=request_id)
    body = json.dumps(content).encode()
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in problem_headers(error).items()]
    headers += [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    return content["status"], headers, body


def new_request_id() -> str:
    """Return an id for a request that brings none. Unique, not secret: the system's random numbers would cost a call of it a request."""
    return f"req_{random.getrandbits(96):024x}"


def problem_response(error: SynesthesiaError, *, instance: str, request_id: str) -> Response:
    """Return `error` as a finished answer."""
    body = problem_body(error, instance=instance, request_id=request_id)
    return JSONResponse(body, status_code=body["status"], headers=problem_headers(error), media_type=PROBLEM_TYPE)


def install_handlers(api: FastAPI) -> None:
    """Make every error of `api`, the framework's own included, a problem."""
    api.add_exception_handler(SynesthesiaError, _answer)
    api.add_exception_handler(HTTPException, _answer)
    api.add_exception_handler(RequestValidationError, _answer)
    for foreign in FOREIGN:
        api.add_exception_handler(foreign, _answer)
    api.add_exception_handler(Exception, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    problem = translate(error)
    if isinstance(problem, RequestError) and problem.code == "method_not_allowed":
        problem.headers = {"Allow": _allowed(request)}
    metrics: Metrics | None = getattr(request.app.state, "metrics", None)
    if metrics is not None:
        metrics.count_refusal(problem.code)
    return problem_response(problem, instance=request.url.path, request_id=request.scope.get("request_id", ""))


def _allowed(request: Request) -> str:
    """Return the methods that the address takes, all of them (RFC 9110, 10.2.1): the framework names those of its first route."""
    scopes = [{**request.scope, "method": method} for method in _METHODS]
    routes = request.app.router.routes
    return ", ".join(scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes))


def translate(error: Exception) -> SynesthesiaError:
    """Return what `error` means to the caller: itself if it is ours, by `FOREIGN` if known, else a bare 500."""
    if isinstance(error, SynesthesiaError):
        return error
    for kind in type(error).__mro__:
        if kind in FOREIGN:
            return FOREIGN[kind](error)
    return SynesthesiaError(_NO_ANSWER)


def framework_error(status: int, detail: str, headers: Mapping[str, str] | None = None) -> SynesthesiaError:
    """Return what the framework means by answering `status` with `detail`."""
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return SynesthesiaError(_NO_ANSWER)
    return RequestError(detail, code=_FRAMEWORK_CODES.get(status, "bad_request"), headers=headers)


def _from_framework(error: Any) -> SynesthesiaError:
    return framework_error(error.status_code, str(error.detail), error.headers)


def _from_validation(error: Any) -> SynesthesiaError:
    return ValidationError([{"pointer": "/" + "/".join(map(str, e["loc"])), "detail": e["msg"]} for e in error.errors()])


def _from_database(error: Any) -> SynesthesiaError:
    # The driver's text may hold the statement and its values, so it goes to the log only.
    log.warning("database_unavailable", error=str(error.args[0] if error.args else error))
    return DependencyError("the database does not answer")


def _from_system(error: Any) -> SynesthesiaError:
    if error.errno in _DISK_ERRNOS:
        return StorageFullError("the disk is full", retry_after=60)
    return SynesthesiaError(_NO_ANSWER)


def _from_disconnect(_: Any) -> SynesthesiaError:
    return MalformedError("the connection was closed before the whole body had come", code="body_incomplete")


FOREIGN: dict[type, Callable[[Any], SynesthesiaError]] = {
    HTTPException: _from_framework,
    RequestValidationError: _from_validation,
    OperationalError: _from_database,
    InterfaceError: _from_database,
    PoolTimeoutError: _from_database,
    ClientDisconnect: _from_disconnect,
    OSError: _from_system,
}
EXPECTED: tuple[type[Exception], ...] = (SynesthesiaError, *FOREIGN)  # what `translate` knows the meaning of


def _param_errors(error: SynesthesiaError) -> list[dict[str, str]]:
    if not error.param:
        return []
    return [{"pointer": "/" + error.param.strip("/").replace(".", "/"), "detail": error.message}]
