"""The outermost layer, pure ASGI: request id, key, body size and body deadline, all before a byte of the body is read.

What it refuses, and whatever the layers below leave as a bare error, goes out as application/problem+json.
"""

import functools
import hashlib
import hmac
import http
import re
import time
from urllib.parse import urlsplit

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.body import GuardedBody, body_limit
from app.errors import (
    EXPECTED,
    PROBLEM_TYPE,
    ForbiddenError,
    UnauthorizedError,
    framework_error,
    new_request_id,
    problem_message,
    status_of,
    translate,
)
from app.gate_socket import answer_socket
from app.metrics import Metrics
from models.errors import ConfigError, SynesthesiaError
from worker.settings import Settings

_PROBES = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = _PROBES | {"/", "/version", "/docs", "/openapi.json"}  # no key asked: liveness, and the public contract
OPEN_FOLDER = "/static/"  # nor for the people's page, which asks its reader for the key
QUIET_PATHS = _PROBES | {"/metrics"}  # asked every few seconds by machines: not worth a log line
COUNTED_PATHS = frozenset({"/predict"})  # thousands a second: the metrics tell what became of them, the log has the unusual ones
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger(__name__)


def check_exposure(settings: Settings) -> None:
    """Refuse settings that would let strangers in. Raises ConfigError; called before a socket is bound."""
    if settings.api_key is None and not settings.loopback:
        raise ConfigError(
            f"host {settings.host} can be reached from other machines, and no key is set", param="host",
            hint="set SYNESTHESIA_API_KEY, or bind to 127.0.0.1",
        )  # fmt: skip
    if settings.auth == "off" and not settings.loopback:
        raise ConfigError("auth off is for loopback only", param="auth", hint="leave SYNESTHESIA_AUTH at auto")
    if settings.auth == "keys" and settings.api_key is None:
        raise ConfigError("auth keys is set, but there is no key", param="auth", hint="set SYNESTHESIA_API_KEY")


def keys_required(settings: Settings) -> bool:
    """Whether callers must show a key."""
    if settings.auth == "auto":
        return settings.api_key is not None or not settings.loopback
    return settings.auth == "keys"


class Gate:
    """Wraps the finished application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        """Of the key only its hash is kept."""
        self.app = app
        self._settings = settings
        self._metrics = metrics
        self._closed = keys_required(settings)
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        self._key_hash = hashlib.sha256(key.encode()).digest() if key else b""

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
            await answer_socket(self.app, lambda asked: self.admit(asked, dict(asked["headers"])), scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        scope["request_id"] = request_id = request_id_of(headers)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        limit = body_limit(self._settings, scope["method"], scope["path"])
        body = GuardedBody(receive, limit, self._settings.body_seconds, headers)
        answer = _Answer(send, scope, body)
        try:
            self.admit(scope, headers)
            body.judge()
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
        """Let a request in and say in `scope` who calls. Raises UnauthorizedError, ForbiddenError."""
        if not self._closed:
            scope["caller"] = "open"
            _refuse_foreign_pages(headers)
        elif scope["path"] not in OPEN_PATHS and not scope["path"].startswith(OPEN_FOLDER):
            self._check_key(scope["headers"])
            scope["caller"] = "admin"

    def _check_key(self, headers: list[tuple[bytes, bytes]]) -> None:
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        # Hashes are compared, so that the time taken tells neither length nor common start.
        matches = hmac.compare_digest(hashlib.sha256(key.strip()).digest(), self._key_hash)
        if scheme.lower() != b"bearer" or not matches:
            raise UnauthorizedError(
                "the key of the request is not known here" if given else "the request has no key",
                hint="send the header Authorization: Bearer <key>",
            )

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and log one answer."""
        route = getattr(scope.get("route"), "path", None) or "unmatched"
        self._metrics.observe_request(route, scope["method"], status, seconds)
        if scope["path"] not in QUIET_PATHS and not (scope["path"] in COUNTED_PATHS and _is_daily(status)):
            log.info("request", method=scope["method"], path=scope["path"], status=status, milliseconds=round(seconds * 1000, 2))


class _Answer:
    """The answer as it leaves: it carries the request id, and a bare error of the framework becomes a problem."""

    def __init__(self, send: Send, scope: Scope, body: GuardedBody) -> None:
        self._send = send
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


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """Return the id that the caller gave to a request, a new one where it gave none that is fit for a log."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


def _refuse_foreign_pages(headers: dict[bytes, bytes]) -> None:
    """Every page in a browser of this machine can call an open service: refuse those of other sites.

    Browsers name the page's site in Origin when they send something. A name that an attacker points at loopback to look
    like our own site (DNS rebinding) stands in Host; it has a dot, as nobody can own a name without one.
    """
    host = _host_name(b"//" + headers.get(b"host", b""))
    if "." in host and any(character.isalpha() for character in host):
        raise _foreign(host)
    origin = headers.get(b"origin")
    if origin is not None and _host_name(origin) not in LOOPBACK_NAMES | {host or "localhost"}:
        raise _foreign(origin.decode("latin-1"))


@functools.lru_cache(maxsize=256)
def _host_name(url: bytes) -> str:
    try:
        return urlsplit(url.decode("latin-1")).hostname or ""
    except ValueError:  # an unbalanced bracket
        return ""


def _foreign(site: str) -> ForbiddenError:
    return ForbiddenError(
        f"without a key the service answers pages of this machine only, not of {site[:100]!r}",
        code="origin_not_allowed", hint="set SYNESTHESIA_API_KEY to be reached under other names",
    )  # fmt: skip
