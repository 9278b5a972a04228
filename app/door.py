"""Plain predictions, answered for the server itself: no task, no framework, no message between them.

A request through the framework costs 0.6 ms on a core on which decoding, features and network cost 0.45; here it costs 0.05. Key, origin,
limits, counting and logging are the gate's, the queue and the answer are those of the route.
"""

import functools
import http
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.answers import json_bytes
from app.errors import problem_message, status_of, translate
from app.gate import Gate, request_id_of
from app.hearing import Answer
from app.jsonbody import JSON_TYPE
from app.plain import PATH, Plan, only_file, plain_headers, plan_of
from app.predictors import Predictors
from models.errors import SynesthesiaError
from worker.errors import OverloadedError

_FORM = b"HTTP/1.1 %d %s\r\nx-content-type-options: nosniff\r\nx-request-id: %s\r\n"
_JSON = b"content-type: %s\r\ncontent-length: %%d\r\n" % JSON_TYPE.encode()

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Asked:
    """A plain prediction that has been let in."""

    plan: Plan
    scope: dict[str, Any]
    """as the gate has judged it"""
    size: int
    """bytes of the body, as told"""
    request_id: bytes
    began: float
    pieces: list[bytes] = field(default_factory=list)


class Door:
    """What the server asks about a request for a prediction, in the order of its parts."""

    def __init__(self, gate: Gate, predictors: Predictors, route: object, max_bytes: int) -> None:
        """The metrics name what is answered here by `route`; a body of more than `max_bytes` is not for this way."""
        self.predictors = predictors
        self._gate = gate
        self._route = route
        self._max_bytes = max_bytes

    def admit(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Asked | None:
        """Let a plain request in by its headers; None for one that has to go the usual way. `done` ends what this begins."""
        named = plain_headers(headers)
        plan = plan_of(url, named.get(b"content-type", b"")) if named is not None else None
        if named is None or plan is None or (size := int(named[b"content-length"])) > self._max_bytes:
            return None
        scope = {"type": "http", "path": PATH, "method": "POST", "headers": headers, "route": self._route}
        try:
            self._gate.admit(scope, named)
        except SynesthesiaError:
            return None
        return Asked(plan, scope, size, request_id_of(named).encode(), time.perf_counter()) if self.predictors.hold(size) else None

    def done(self, asked: Asked) -> None:
        """End a request: answered, gone, or sent on the usual way."""
        self.predictors.free(asked.size)
        asked.size = 0

    def ask(self, asked: Asked, answer: Callable[[bytes, bytes], None]) -> bool:
        """Ask for the prediction, the body being whole; `answer` gets status line with headers, and body, in the running loop.

        Returns False where the request is not plain after all, or its model is not at hand; then nothing has begun.
        """
        body = asked.pieces[0] if len(asked.pieces) == 1 else b"".join(asked.pieces)
        sound = body if asked.plan.delimiter is None else only_file(body, asked.plan.delimiter)
        if sound is None:
            return False
        view = asked.scope["caller"].view  # of the names that the caller knows a model by
        return self.predictors.begin(
            asked.plan.model, sound, asked.plan.options, lambda outcome: answer(*self._answer(asked, outcome)), view
        )

    def _answer(self, asked: Asked, outcome: Answer | BaseException) -> tuple[bytes, bytes]:
        if isinstance(outcome, BaseException):
            with structlog.contextvars.bound_contextvars(request_id=asked.request_id.decode()):
                return self._problem(asked, outcome)
        self.predictors.count(outcome)
        content = json_bytes(outcome)
        return self._head(asked, http.HTTPStatus.OK) + _JSON % len(content), content

    def _head(self, asked: Asked, status: int) -> bytes:
        """Count and log the answer, and return its first lines."""
        self._gate.record(asked.scope, status, time.perf_counter() - asked.began)
        return _FORM % (status, _phrase(status), asked.request_id)

    def _problem(self, asked: Asked, error: BaseException) -> tuple[bytes, bytes]:
        known = translate(error) if isinstance(error, Exception) else OverloadedError("the service is stopping", retry_after=1)
        if status_of(known) == http.HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request_failed", method="POST", path=PATH, exc_info=error)
        self.predictors.count(known)
        status, headers, content = problem_message(known, instance=PATH, request_id=asked.request_id.decode())
        return self._head(asked, status) + b"".join(b"%s: %s\r\n" % pair for pair in headers), content


@functools.cache
def _phrase(status: int) -> bytes:
    return http.HTTPStatus(status).phrase.encode()
