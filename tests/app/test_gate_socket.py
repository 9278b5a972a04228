from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from app.gate import Gate
from app.gate_socket import SUBPROTOCOL, agreed_subprotocol
from app.metrics import Metrics
from tests.app.conftest import check_problem
from worker.settings import Settings

KEY = "syn_0123456789abcdef"
KEYED = Settings(api_key=KEY)


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": agreed_subprotocol(scope)})
    await send({"type": "websocket.send", "text": scope["request_id"]})


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 1000})


def knock(settings: Settings, inner: Any = greet, **options: Any) -> tuple[str, str | None]:
    with TestClient(Gate(inner, settings, Metrics()), base_url="http://localhost").websocket_connect("/x", **options) as socket:
        return socket.receive_text(), socket.accepted_subprotocol


def refusal(status: int, code: str, settings: Settings, inner: Any = greet, **options: Any) -> dict[str, Any]:
    with pytest.raises(WebSocketDisconnect) as caught:
        knock(settings, inner, **options)
    return check_problem(caught.value, status, code)  # type: ignore[arg-type]  # starlette's is a response as well


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Authorization": f"Bearer {KEY}"}},
        {"subprotocols": [f"bearer.{KEY}"]},
        {"subprotocols": [SUBPROTOCOL, f"bearer.{KEY}"]},
        {"subprotocols": ["bearer.wrong"], "headers": {"Authorization": f"Bearer {KEY}"}},  # the header counts where there is one
    ],
)
def test_the_key_comes_as_header_or_subprotocol(options: dict[str, Any]) -> None:
    _, agreed = knock(KEYED, **options)
    assert agreed == (SUBPROTOCOL if SUBPROTOCOL in options.get("subprotocols", ()) else None), "and is never repeated"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"headers": {"Authorization": "Bearer wrong"}},
        {"headers": {"Authorization": "Bearer wrong"}, "subprotocols": [f"bearer.{KEY}"]},
        {"subprotocols": ["bearer."]},
        {"subprotocols": [f"bearer.{KEY}x"]},
        {"subprotocols": [KEY]},
        {"subprotocols": [f"bearer.{KEY}", "bearer.other"]},  # whichever was meant
    ],
)
def test_without_the_key_nothing_is_opened(options: dict[str, Any]) -> None:
    body = refusal(401, "unauthorized", KEYED, **options)
    assert KEY not in str(body)


def test_pages_of_other_sites_are_refused_where_no_key_is_asked() -> None:
    assert knock(Settings(), headers={"Origin": "http://localhost:3000"})
    refusal(403, "origin_not_allowed", Settings(), headers={"Origin": "http://evil.example"})
    refusal(403, "origin_not_allowed", Settings(), headers={"Host": "evil.example"})
    assert knock(KEYED, headers={"Origin": "http://shop.example", "Authorization": f"Bearer {KEY}"})


def test_the_request_id_is_taken_or_made() -> None:
    assert knock(Settings(), headers={"X-Request-ID": "mine-1"})[0] == "mine-1"
    assert knock(Settings())[0].startswith("req_")
    assert refusal(401, "unauthorized", KEYED, headers={"X-Request-ID": "mine-2"})["request_id"] == "mine-2"


def test_an_address_without_a_socket_is_absent() -> None:
    refusal(404, "route_not_found", Settings(), close)


def test_servers_without_answers_for_sockets_close_them() -> None:
    import asyncio

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope: Scope = {"type": "websocket", "path": "/x", "headers": [], "subprotocols": []}
    asyncio.run(Gate(greet, KEYED, Metrics())(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "unauthorized"}]


def test_a_close_after_the_begin_passes() -> None:
    async def brief(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    with pytest.raises(WebSocketDisconnect) as caught:
        knock(Settings(), brief)
    assert caught.value.code == 4000
