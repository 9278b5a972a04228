"""HTTP as the server speaks it, with one thing earlier: under overload a prediction is refused as soon as its headers have come.

A refusal that goes through the framework costs a fifth of a prediction, so at three times the load that the machine can take, refusing
would take what predicting needs. Here it costs a twentieth: no task, no request, no body kept. What is not plainly such a request
(a large or chunked body, pipelined requests, another method) goes the usual way and is refused there.
"""

import functools

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.body import SMALL_REST
from app.errors import new_request_id, problem_message
from app.predictors import Predictors
from worker.errors import OverloadedError

PREDICTORS = "predictors"  # their name in the state that the application's lifespan gives to the server
_PATH = b"/predict"
_PLACE = b"req_" + 24 * b"?"  # as long as a request id, and none


class Protocol(HttpToolsProtocol):
    """One connection."""

    _skips = False  # the body of a request that was refused is on its way
    _begun = 0  # predictions that are on their way through this connection

    def on_headers_complete(self) -> None:
        """Refuse, or go on as usual."""
        predictors: Predictors | None = self.app_state.get(PREDICTORS) if self._asks_to_predict() else None
        error = predictors.refusal_at_the_door() if predictors else None
        if predictors is not None and error is not None and self._is_plain():
            self._skips = True
            predictors.count_early_refusal(error)
            self.transport.write(_answer(error.message, error.retry_after))
            return
        super().on_headers_complete()
        if predictors is not None:
            self._begun += 1
            predictors.begun += 1

    def on_response_complete(self) -> None:
        """Count the end of a prediction."""
        self._end(min(self._begun, 1))
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the end of all predictions of this connection."""
        self._end(self._begun)
        super().connection_lost(exc)

    def on_body(self, body: bytes) -> None:
        """Drop what belongs to a refused request."""
        if not self._skips:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a refused request as an answered one ends: the connection stays open for the next one, for a while."""
        if not self._skips:
            super().on_message_complete()
            return
        self._skips = False
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _end(self, count: int) -> None:
        if count:
            self._begun -= count
            self.app_state[PREDICTORS].begun -= count

    def _asks_to_predict(self) -> bool:
        return self.url.startswith(_PATH) and self.url[len(_PATH) : len(_PATH) + 1] in (b"", b"?")

    def _is_plain(self) -> bool:
        lengths = [value for name, value in self.headers if name == b"content-length"]
        small = len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0][:9]) <= SMALL_REST and len(lengths[0]) < 9
        waits = self.cycle is not None and not self.cycle.response_complete
        keeps = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive() and not self.parser.should_upgrade()
        return small and keeps and not waits and not self.expect_100_continue and self.parser.get_method() == b"POST"


def _answer(message: str, retry_after: int) -> bytes:
    """Return a whole HTTP answer, with a request id of its own."""
    return _template(message, retry_after).replace(_PLACE, new_request_id().encode())


@functools.lru_cache(maxsize=64)
def _template(message: str, retry_after: int) -> bytes:
    """Return the answer with _PLACE where the request id belongs."""
    error = OverloadedError(message, retry_after=retry_after)
    status, headers, body = problem_message(error, instance=_PATH.decode(), request_id=_PLACE.decode())
    headers += [(b"x-request-id", _PLACE), (b"x-content-type-options", b"nosniff")]
    lines = [b"HTTP/1.1 %d Service Unavailable" % status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"", body])
