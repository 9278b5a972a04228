import errno
import http
import json
import sqlite3
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

import models.errors
import worker.errors
from app import errors
from app.errors import (
    FOREIGN,
    RETRY_LATER,
    STATUSES,
    RequestError,
    UnauthorizedError,
    ValidationError,
    framework_error,
    install_handlers,
    problem_body,
    problem_headers,
    problem_response,
    status_of,
    translate,
)
from models.errors import ArtifactError, ConfigError, InputError, MediaTypeError, SynesthesiaError, UnavailableError
from worker.errors import (
    CapacityError,
    ConflictError,
    DependencyError,
    GoneError,
    NotFoundError,
    OverloadedError,
    QueueFullError,
    StorageFullError,
)


def subclasses(kind: type[SynesthesiaError]) -> Iterator[type[SynesthesiaError]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from subclasses(inner)


def first_level() -> list[type[SynesthesiaError]]:
    """Direct children of the root; StateError and RequestError are split further, as their statuses differ."""
    return [*SynesthesiaError.__subclasses__(), *worker.errors.StateError.__subclasses__(), *RequestError.__subclasses__()]


@pytest.mark.parametrize("kind", first_level(), ids=lambda kind: kind.__name__)
def test_every_first_level_class_has_a_row(kind: type[SynesthesiaError]) -> None:
    assert kind in STATUSES


def test_every_row_is_a_class_that_still_exists() -> None:
    alive = {SynesthesiaError, *subclasses(SynesthesiaError)}
    assert set(STATUSES) <= alive
    assert {kind.__module__ for kind in alive} == {"models.errors", "worker.errors", "app.errors"}


@pytest.mark.parametrize("module", [models.errors, worker.errors, errors], ids=lambda module: module.__name__)
def test_the_drawn_tree_names_every_class_of_its_module(module: object) -> None:
    own = [kind.__name__ for kind in subclasses(SynesthesiaError) if kind.__module__ == module.__name__]  # type: ignore[attr-defined]  # a module
    assert [name for name in own if name not in (module.__doc__ or "")] == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("x"), 422),
        (ConfigError("x"), 422),
        (MediaTypeError("x"), 415),
        (UnavailableError("x"), 503),
        (ArtifactError("x"), 422),
        (NotFoundError("x"), 404),
        (NotFoundError("x", code="model_not_found"), 404),
        (GoneError("x"), 410),
        (ConflictError("x"), 409),
        (CapacityError("x"), 503),
        (QueueFullError("x"), 503),
        (OverloadedError("x"), 503),
        (DependencyError("x"), 503),
        (StorageFullError("x"), 507),
        (SynesthesiaError("x"), 500),
        (models.errors.Interrupted("x"), 500),
        (RequestError("x", code="route_not_found"), 404),
        (RequestError("x", code="method_not_allowed"), 405),
        (RequestError("x", code="range_not_satisfiable"), 416),
        (errors.MalformedError("x"), 400),
        (UnauthorizedError("x"), 401),
        (errors.ForbiddenError("x"), 403),
        (errors.NotAcceptableError("x"), 406),
        (errors.BodyTimeoutError("x"), 408),
        (errors.BodyTooLargeError("x"), 413),
        (errors.UnsupportedTypeError("x"), 415),
        (ValidationError([{"pointer": "/a", "detail": "b"}]), 422),
    ],
    ids=lambda value: getattr(value, "code", value),
)
def test_statuses(error: SynesthesiaError, status: int) -> None:
    assert status_of(error) == status
    headers = problem_headers(error)
    assert ("Retry-After" in headers) == (status in RETRY_LATER)
    assert ("WWW-Authenticate" in headers) == (status == http.HTTPStatus.UNAUTHORIZED)


def test_retry_after_is_what_the_error_says() -> None:
    assert problem_headers(OverloadedError("x", retry_after=7)) == {"Retry-After": "7"}
    assert problem_headers(UnavailableError("x")) == {"Retry-After": str(errors.UNAVAILABLE_RETRY_SECONDS)}


def test_the_body_has_the_members_of_the_standard_and_ours() -> None:
    error = ConfigError("epochs is 0", param="hyperparameters.epochs", hint="at least 1")
    assert problem_body(error, instance="/jobs", request_id="r-1") == {
        "type": "/problems#config_invalid",
        "title": "The description asks for something that does not fit",
        "status": 422,
        "detail": "epochs is 0",
        "instance": "/jobs",
        "code": "config_invalid",
        "request_id": "r-1",
        "hint": "at least 1",
        "errors": [{"pointer": "/hyperparameters/epochs", "detail": "epochs is 0"}],
    }
    plain = problem_body(SynesthesiaError("x"), instance="/", request_id="r")
    assert plain.keys() == {"type", "title", "status", "detail", "instance", "code", "request_id"}


def test_a_validation_error_sums_up_its_first_field() -> None:
    error = ValidationError([{"pointer": "", "detail": "is missing"}, {"pointer": "/b", "detail": "c"}])
    assert error.message == "the body: is missing"
    assert len(problem_body(error, instance="/", request_id="r")["errors"]) == 2


SECRET = "/root/secret/synesthesia.db"
DRIVER = sqlite3.OperationalError(f"unable to open {SECRET}")


@pytest.mark.parametrize(
    ("foreign", "status", "code"),
    [
        (OperationalError("SELECT secret", {}, DRIVER), 503, "dependency_unavailable"),
        (InterfaceError("SELECT secret", {}, DRIVER), 503, "dependency_unavailable"),
        (PoolTimeoutError(SECRET), 503, "dependency_unavailable"),
        (ClientDisconnect(), 400, "body_incomplete"),
        (OSError(errno.ENOSPC, "No space left on device", SECRET), 507, "insufficient_storage"),
        (OSError(errno.EDQUOT, "Quota exceeded", SECRET), 507, "insufficient_storage"),
        (OSError(errno.EFBIG, "File too large", SECRET), 507, "insufficient_storage"),
        (PermissionError(errno.EACCES, "Permission denied", SECRET), 500, "internal"),
        (HTTPException(404, "Not Found"), 404, "route_not_found"),
        (HTTPException(405, headers={"Allow": "GET"}), 405, "method_not_allowed"),
        (HTTPException(416, "no range"), 416, "range_not_satisfiable"),
        (HTTPException(400, "no"), 400, "bad_request"),
        (HTTPException(418, "no"), 400, "bad_request"),
        (HTTPException(500, SECRET), 500, "internal"),
        (RequestValidationError([{"loc": ("query", "limit"), "msg": "too large"}]), 422, "validation_error"),
        (KeyError(SECRET), 500, "internal"),
        (ZeroDivisionError(SECRET), 500, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_foreign_errors_become_ours_and_give_nothing_away(foreign: Exception, status: int, code: str) -> None:
    response = problem_response(translate(foreign), instance="/x", request_id="r")
    assert (response.status_code, json.loads(response.body)["code"]) == (status, code)
    assert "secret" not in bytes(response.body).decode()


def test_ours_pass_as_they_are() -> None:
    error = NotFoundError("x")
    assert translate(error) is error


def test_every_foreign_row_is_reachable() -> None:
    kinds = list(FOREIGN)
    assert not [(kind, other) for kind in kinds for other in kinds if kind is not other and issubclass(kind, other)]


def test_the_framework_s_headers_stay() -> None:
    assert problem_headers(framework_error(405, "no", {"allow": "GET"})) == {"allow": "GET"}


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (NotFoundError("x"), 404),
        (HTTPException(403), 400),
        (OSError(errno.ENOSPC, "x"), 507),
        (RuntimeError(SECRET), 500),
        (MemoryError(), 500),
    ],
)
def test_handlers_turn_whatever_a_route_raises_into_a_problem(raised: Exception, status: int) -> None:
    api = FastAPI()
    install_handlers(api)

    @api.get("/fails")
    def fail() -> None:
        raise raised

    response = TestClient(api, raise_server_exceptions=False).get("/fails")
    assert response.status_code == status
    assert response.headers["content-type"] == errors.PROBLEM_TYPE
    assert response.json()["instance"] == "/fails"
    assert "secret" not in response.text
