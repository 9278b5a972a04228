"""The outermost layer, pure ASGI: request id, key, body size and body deadline, all before a byte of the body is read.

What it refuses, and whatever the layers below leave as a bare error, goes out as application/problem+json.
"""

import asyncio
import http
import re
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import PROBES, Admission, acting, origin_of
from app.body import GuardedBody, body_limit
from app.errors import (
    EXPECTED,
    PROBLEM_TYPE,
    ScopeError,
    UnauthorizedError,
    framework_error,
    new_request_id,
    problem_message,
    status_of,
    translate,
)
from app.gate_socket import answer_socket
from app.keyring import KeyRing
from app.metrics import Metrics
from app.scopes import changes
from models.errors import SynesthesiaError
from worker.audit import note_refusal
from worker.errors import DependencyError
from worker.settings import Settings

QUIET_PATHS = PROBES | {"/metrics"}  # asked every few seconds by machines: not worth a log line
COUNTED_PATHS = frozenset({"/predict"})  # thousands a second: the metrics tell what became of them, the log has the unusual ones

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger(__name__)


class Gate:
    """Wraps the finished application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, ring: KeyRing | None = None) -> None:
        """Without a `ring` the key of the settings is the only one."""
        self.app = app
        self._settings = settings
        self._metrics = metrics
        self._admission = Admission(settings, ring)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await self._answer_socket(scope, receive, send)

    async def _answer_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["request_id"] = request_id_of(dict(scope["headers"]))
        with structlog.contextvars.bound_contextvars(request_id=scope["request_id"]):
            await answer_socket(self.app, self._let_in, scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        scope["request_id"] = request_id = request_id_of(headers)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        limit = body_limit(self._settings, scope["method"], scope["path"])
        body = GuardedBody(receive, limit, self._settings.body_seconds, headers)
        answer = _Answer(send, scope, body, self._metrics)
        try:
            await self._let_in(scope)
            body.judge()
            with acting(scope):
                await self.app(scope, body, answer)
        except EXPECTED as error:
            problem = translate(error)
            if status_of(problem) == http.HTTPStatus.INTERNAL_SERVER_ERROR:
                log.exception("request_failed", method=scope["method"], path=scope["path"])
            await answer.refuse(problem)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if not answer.complete:
                raise  # uvicorn then cuts the connection, and the client sees that the answer is not whole
        finally:
            self.record(scope, answer.status, time.perf_counter() - started)
            structlog.contextvars.unbind_contextvars("request_id")

    def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Let a request in and say in `scope["caller"]` who calls, from what this process knows: never waits.

        Raises UnauthorizedError, ForbiddenError, QuotaError, DependencyError. A request that is refused may be let in on the usual way,
        which can ask the database for a key that was made a moment ago.
        """
        self._admission.admit(scope, headers)

    async def _let_in(self, scope: Scope) -> None:
        """Do as `admit` does, but ask the database for what is not known here; note who was not let to change something."""
        headers = dict(scope["headers"])
        try:
            while True:
                try:
                    return self.admit(scope, headers)
                except (UnauthorizedError, DependencyError) as error:
                    if not await self._admission.learn(scope, error):
                        raise
        except ScopeError:
            if scope["type"] == "http":
                await _note_refusal(scope)
            raise

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log one answer."""
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        self._metrics.observe_request(route, scope["method"], status, seconds)
        if scope["path"] not in QUIET_PATHS and not (scope["path"] in COUNTED_PATHS and _is_daily(status)):
            log.info("request", method=scope["method"], path=scope["path"], status=status, milliseconds=round(seconds * 1000, 2))


class _Answer:
    """The answer as it leaves: it carries the request id, and a bare error of the framework becomes a problem."""

    def __init__(self, send: Send, scope: Scope, body: GuardedBody, metrics: Metrics) -> None:
        self._send = send
        self._metrics = metrics
        self._scope = scope
        self._body = body
        self._replaced = False  # the framework's own error body is dropped, ours has gone out
        self._lingers = False
        self.status = 0  # until the answer begins
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif not self._replaced:
            await self._continue(message)

    async def refuse(self, error: SynesthesiaError) -> None:
        """Answer with `error`, unless an answer has begun."""
        if self.status:
            return
        status, headers, body = problem_message(error, instance=self._scope["path"], request_id=self._scope["request_id"])
        self._metrics.count_refusal(error.code)
        await self._start({"type": "http.response.start", "status": status, "headers": headers})
        await self._continue({"type": "http.response.body", "body": body})

    async def _start(self, message: Message) -> None:
        headers = list(message.get("headers", ()))
        if message["status"] >= 400 and (b"content-type", PROBLEM_TYPE.encode()) not in headers:
            kept = {name.decode(): value.decode("latin-1") for name, value in headers if name in (b"allow", b"content-range")}
            await self.refuse(framework_error(message["status"], "the request could not be answered", kept))
            self._replaced = True
            return
        self.status = message["status"]
        self._lingers = self._body.rest_is_large
        own = [(b"x-request-id", self._scope["request_id"].encode()), (b"x-content-type-options", b"nosniff")]
        closing = [(b"connection", b"close")] if self._lingers else []
        await self._send({**message, "headers": [*headers, *own, *closing]})

    async def _continue(self, message: Message) -> None:
        last = not message.get("more_body", False)
        await self._send({**message, "more_body": True} if last and self._lingers else message)
        if last and self._lingers:
            await self._body.drain()
            await self._send({"type": "http.response.body"})
        self.complete = last


def _is_daily(status: int) -> bool:
    """Whether an answer at COUNTED_PATHS is one of many: what went well, and what is refused under load, which a line each would double."""
    return status < http.HTTPStatus.BAD_REQUEST or status == http.HTTPStatus.SERVICE_UNAVAILABLE


async def _note_refusal(scope: Scope) -> None:
    """Write into the audit log that a key was too weak for a change. The answer does not depend on it."""
    if not changes(scope["method"], scope["path"]):
        return
    try:
        await asyncio.to_thread(note_refusal, origin_of(scope))
    except SQLAlchemyError as error:
        log.warning("refusal_not_noted", error=str(error)[:200])


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """Return the id that the caller gave to a request, a new one where it gave none that is fit for a log."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()
