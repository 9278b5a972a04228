"""HTTP as the server speaks it, with two things done earlier, for requests that are plainly predictions (app/plain.py).

Under overload they are refused as soon as their headers have come: a refusal that goes through the framework costs a fifth of a
prediction, so at three times the load that the machine can take, refusing would take what predicting needs; here it costs a twentieth.
Otherwise they are answered by the door (app/door.py), which saves the framework's share of each. What is not plain, or is slow to come,
goes the usual way from its beginning.
"""

import asyncio
import functools
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.body import SMALL_REST
from app.door import Asked, Door
from app.errors import new_request_id, problem_message
from app.plain import PATH
from worker.errors import OverloadedError

DOOR = "door"  # its name in the state that the application's lifespan gives to the server
_PATH = PATH.encode()
_PLACE = b"req_" + 24 * b"?"  # as long as a request id, and none
_PATIENCE = 1.0  # seconds for a body to come; after that the usual way's own limits are to judge it


def web_socket(**given: Any) -> asyncio.Protocol:
    """Return uvicorn's protocol for a web socket. The first stream waits for its import, not the start of the service."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol  # noqa: PLC0415

    return WebSocketsSansIOProtocol(**given)


class _Taken(RequestResponseCycle):
    """Stands where the framework's request would: for uvicorn, which asks it when the next request comes, or the connection ends."""

    message_event = asyncio.Event()  # nobody waits for it

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.timer: asyncio.TimerHandle | None = None


class Protocol(HttpToolsProtocol):
    """One connection."""

    _skips = False  # the body of a request that was refused is on its way
    _taken: _Taken | None = None  # a plain request whose body is on its way
    _begun = 0  # predictions that are on their way through this connection

    def data_received(self, data: bytes) -> None:
        """Give a body that has not come whole some time to do so."""
        super().data_received(data)
        if self._taken is not None and self._taken.timer is None:
            self._taken.timer = self.loop.call_later(_PATIENCE, self._go_on)

    def on_headers_complete(self) -> None:
        """Refuse, take the request in, or go on as usual."""
        door: Door | None = self.app_state.get(DOOR) if self._asks_to_predict() else None
        if door is None:
            super().on_headers_complete()
            return
        plain = self._is_plain()
        error = door.predictors.refusal_at_the_door()
        if plain and error is not None and self._is_small():
            self._skips = True
            door.predictors.count_early_refusal(error)
            self.transport.write(_refusal(error.message, error.retry_after))
            return
        asked = door.admit(self.url, self.headers) if plain and error is None else None
        if asked is None:
            super().on_headers_complete()
        else:
            self.cycle = self._taken = _Taken(asked)
        self._begun += 1
        door.predictors.begun += 1

    def on_body(self, body: bytes) -> None:
        """Keep what belongs to a plain request, drop what belongs to a refused one."""
        if self._taken is not None:
            self._taken.asked.pieces.append(body)
        elif not self._skips:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Ask for the prediction; end a refused request as an answered one ends: the connection stays open for a while."""
        if self._taken is not None:
            self._ask(self._taken)
        elif self._skips:
            self._skips = False
            super().on_response_complete()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Count the end of a prediction."""
        self._end(min(self._begun, 1))
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the end of all predictions of this connection."""
        if self._taken is not None:
            self._let_go(self._taken)
        self._end(self._begun)
        super().connection_lost(exc)

    def _ask(self, taken: _Taken) -> None:
        if self.app_state[DOOR].ask(taken.asked, functools.partial(self._answer, taken)):
            self._taken = None
            if taken.timer is not None:
                taken.timer.cancel()
        else:
            self._go_on()
            super().on_message_complete()

    def _answer(self, taken: _Taken, head: bytes, body: bytes) -> None:
        """Write an answer, as long as somebody is there to read it."""
        self.app_state[DOOR].done(taken.asked)
        if taken.disconnected:
            return
        taken.response_complete = True
        lines = [b"%s: %s\r\n" % pair for pair in self.server_state.default_headers]
        if not taken.keep_alive:
            lines.append(b"connection: close\r\n")
        self.transport.write(b"".join([head, *lines, b"\r\n", body]))
        if not taken.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _go_on(self) -> None:
        """Send a request that was taken in the usual way, with what has come of it."""
        taken = self._taken
        assert taken is not None
        self._let_go(taken)
        self.cycle = None  # type: ignore[assignment]  # uvicorn's own value where no request is being answered
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and taken.keep_alive
        for piece in taken.asked.pieces:
            super().on_body(piece)

    def _let_go(self, taken: _Taken) -> None:
        self._taken = None
        self.app_state[DOOR].done(taken.asked)
        if taken.timer is not None:
            taken.timer.cancel()

    def _end(self, count: int) -> None:
        if count:
            self._begun -= count
            self.app_state[DOOR].predictors.begun -= count

    def _asks_to_predict(self) -> bool:
        return self.url.startswith(_PATH) and self.url[len(_PATH) : len(_PATH) + 1] in (b"", b"?")

    def _is_plain(self) -> bool:
        """Whether this connection can take an answer that is simply written: no earlier request waits, and a next one may come."""
        waits = self.cycle is not None and not self.cycle.response_complete
        keeps = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive() and not self.parser.should_upgrade()
        return keeps and not waits and not self.expect_100_continue and self.parser.get_method() == b"POST"

    def _is_small(self) -> bool:
        """Whether reading the body costs less than a new connection."""
        lengths = [value for name, value in self.headers if name == b"content-length"]
        return len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) < 9 and int(lengths[0]) <= SMALL_REST


def _refusal(message: str, retry_after: int) -> bytes:
    """Return a whole HTTP answer, with a request id of its own."""
    return _template(message, retry_after).replace(_PLACE, new_request_id().encode())


@functools.lru_cache(maxsize=64)
def _template(message: str, retry_after: int) -> bytes:
    """Return the answer with _PLACE where the request id belongs."""
    error = OverloadedError(message, retry_after=retry_after)
    status, headers, body = problem_message(error, instance=PATH, request_id=_PLACE.decode())
    headers += [(b"x-request-id", _PLACE), (b"x-content-type-options", b"nosniff")]
    lines = [b"HTTP/1.1 %d Service Unavailable" % status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"", body])
