"""Who may open a web socket: the rules of HTTP, and refusals as HTTP answers while the connection still is one.

A browser's page can't set headers, so the key may come as a subprotocol as well: `bearer.<key>` beside SUBPROTOCOL, which is the one that
is agreed on, so that no answer repeats the key.
"""

from collections.abc import Awaitable, Callable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import acting
from app.errors import EXPECTED, framework_error, problem_message, translate
from models.errors import SynesthesiaError

SUBPROTOCOL = "synesthesia.v1"
_KEY_PREFIX = "bearer."
_DENIAL = "websocket.http.response"  # the ASGI extension
_REFUSED = 1008  # policy violation: all that is left to say where the server has no HTTP answers for web sockets

log = structlog.get_logger(__name__)
Headers = list[tuple[bytes, bytes]]


async def answer_socket(app: ASGIApp, admit: Callable[[Scope], Awaitable[None]], scope: Scope, receive: Receive, send: Send) -> None:
    """Let `app` answer a web socket if `admit` lets it in; `admit` raises EXPECTED and finds the key among the headers."""
    accepted = False

    async def watched(message: Message) -> None:
        nonlocal accepted
        if message["type"] == "websocket.close" and not accepted:  # the framework's answer to an address that it does not have
            await refuse_socket(scope, send, framework_error(404, "no web socket has this address"))
            return
        accepted = accepted or message["type"] == "websocket.accept"
        await send(message)

    try:
        asked = {**scope, "headers": with_key(scope)}
        await admit(asked)
    except EXPECTED as error:
        await refuse_socket(scope, send, translate(error))
        return
    with acting(asked):
        await app(scope, receive, watched)


def with_key(scope: Scope) -> Headers:
    """Return the headers, with the key that came as a subprotocol as an Authorization header where there is none."""
    headers: Headers = list(scope["headers"])
    if any(name == b"authorization" for name, _ in headers):
        return headers
    keys = [name.removeprefix(_KEY_PREFIX) for name in scope.get("subprotocols", ()) if name.startswith(_KEY_PREFIX)]
    return [*headers, *((b"authorization", b"Bearer " + key.encode("latin-1", "replace")) for key in keys)]


def agreed_subprotocol(scope: Scope) -> str | None:
    """Return the subprotocol to answer with; browsers give up where they offered some and none is chosen."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None


async def refuse_socket(scope: Scope, send: Send, error: SynesthesiaError) -> None:
    """Answer the handshake with `error`."""
    log.info("stream_refused", path=scope["path"], code=error.code)
    if _DENIAL not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": _REFUSED, "reason": error.code})
        return
    status, headers, body = problem_message(error, instance=scope["path"], request_id=scope["request_id"])
    headers += [(b"x-request-id", scope["request_id"].encode()), (b"x-content-type-options", b"nosniff")]
    await send({"type": f"{_DENIAL}.start", "status": status, "headers": headers})
    await send({"type": f"{_DENIAL}.body", "body": body})
