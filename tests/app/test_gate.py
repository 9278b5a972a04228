import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admission import OPEN_PATHS, Admission
from app.exposure import check_exposure
from app.gate import Gate
from app.metrics import Metrics
from models.errors import ConfigError
from tests.app.conftest import check_problem, check_problem_parts, exchange, read_answer, serving
from worker.settings import Settings

KEY = "syn_0123456789abcdef"
KEYED = Settings(api_key=KEY)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await PlainTextResponse(f"{size}")(scope, receive, send)


def client_of(settings: Settings, inner: ASGIApp = echo, **options: Any) -> TestClient:
    return TestClient(Gate(inner, settings, Metrics()), **options)


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        (Settings(), None),
        (Settings(host="localhost"), None),
        (Settings(host="::1"), None),
        (Settings(host="0.0.0.0"), "host"),
        (Settings(host="::"), "host"),
        (Settings(host=""), "host"),
        (Settings(host="192.168.1.7"), "host"),
        (Settings(host="127.0.0.1.example.org"), "host"),
        (Settings(host="0.0.0.0", api_key=KEY), None),
        (Settings(host="0.0.0.0", api_key=KEY, auth="keys"), None),
        (Settings(host="0.0.0.0", api_key=KEY[:15]), "api_key"),
        (Settings(api_key="short"), None),
        (Settings(host="0.0.0.0", api_key=KEY, auth="off"), "auth"),
        (Settings(host="0.0.0.0", auth="off"), "host"),
        (Settings(auth="off"), None),
        (Settings(auth="keys"), "auth"),
    ],
)
def test_what_lets_strangers_in_is_refused_at_the_start(settings: Settings, param: str | None) -> None:
    if param is None:
        check_exposure(settings)
        return
    with pytest.raises(ConfigError) as caught:
        check_exposure(settings)
    assert caught.value.param == param


@pytest.mark.parametrize("blank", ["", "   "])
def test_a_blank_key_is_no_key(blank: str) -> None:
    with pytest.raises(ConfigError):
        check_exposure(Settings(host="0.0.0.0", api_key=blank))
    assert not Admission(Settings(api_key=blank), None).closed


def test_a_key_from_a_file_has_no_line_break() -> None:
    assert client_of(Settings(api_key=f"{KEY}\n")).get("/jobs", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "required"),
    [
        (Settings(), False),
        (KEYED, True),
        (Settings(api_key=KEY, auth="off"), False),
        (Settings(api_key=KEY, auth="keys"), True),
        (Settings(host="0.0.0.0"), True),
    ],
)
def test_when_a_key_is_asked_for(settings: Settings, required: bool) -> None:
    assert Admission(settings, None).closed is required
    assert client_of(settings).get("/jobs").status_code == (401 if required else 200)


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (f"Bearer {KEY}", True),
        (f"bearer {KEY}", True),
        (f"BEARER  {KEY} ", True),
        (None, False),
        ("", False),
        ("Bearer", False),
        ("Bearer ", False),
        (KEY, False),
        (f"Basic {KEY}", False),
        (f"Bearer {KEY[:-1]}", False),
        (f"Bearer {KEY}x", False),
        (f"Bearer {KEY[:-1]}X", False),
        (f"Bearer {KEY.upper()}", False),
        (f"Bearer {KEY}, Bearer {KEY}", False),
        ("Bearer " + "x" * 1_000_000, False),
        ("Bearer \xff\xfe", False),
    ],
)
def test_keys(value: str | None, accepted: bool) -> None:
    headers = {} if value is None else {"Authorization": value.encode("latin-1")}
    response = client_of(KEYED).get("/jobs", headers=headers)
    if accepted:
        assert response.text == "0"
    else:
        body = check_problem(response, 401, "unauthorized")
        assert KEY not in response.text
        assert "Bearer" in body["hint"]


def test_two_keys_are_one_too_many() -> None:
    headers = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {KEY}")]
    check_problem(client_of(KEYED).get("/jobs", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_liveness_and_the_contract_need_no_key(path: str) -> None:
    assert client_of(KEYED).get(path).status_code == 200


@pytest.mark.parametrize("path", ["/docs/", "/metrics", "/problems", "/limits", "/healthz/../jobs", "/HEALTHZ", "/nowhere"])
def test_all_else_needs_one(path: str) -> None:
    check_problem(client_of(KEYED).get(path), 401, "unauthorized")


def test_only_the_hash_of_the_key_is_kept() -> None:
    gate = Gate(echo, KEYED, Metrics())
    held = {name: value for name, value in vars(gate).items() if name != "_settings"}
    assert KEY not in repr(held)
    assert KEY not in repr(KEYED)


def test_neither_key_nor_query_is_logged() -> None:
    with structlog.testing.capture_logs() as lines:
        client_of(KEYED).get("/jobs?name=private", headers={"Authorization": f"Bearer {KEY}"})
        client_of(KEYED).get("/jobs", headers={"Authorization": "Bearer wrong-secret"})
    assert [line["status"] for line in lines] == [200, 401]
    assert not any(word in repr(lines) for word in (KEY, "wrong-secret", "private"))


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
def test_a_request_id_is_taken(given: str) -> None:
    assert client_of(Settings()).get("/", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "ä", "<script>", "a;b", "../x"])
def test_an_odd_request_id_is_replaced(given: str) -> None:
    response = client_of(Settings()).get("/", headers={"X-Request-ID": given.encode("latin-1")})
    made = response.headers["x-request-id"]
    assert made.startswith("req_")
    assert len(made) == 28


def test_made_request_ids_differ() -> None:
    client = client_of(Settings())
    assert len({client.get("/").headers["x-request-id"] for _ in range(20)}) == 20


def test_the_request_id_stands_in_the_log() -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        client_of(Settings()).get("/jobs", headers={"X-Request-ID": "mine-1"})
    assert [(line["event"], line["request_id"], line["path"]) for line in lines] == [("request", "mine-1", "/jobs")]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "127.0.0.1:8000"}, True),
        ({"Host": "localhost:8000"}, True),
        ({"Host": "[::1]:8000"}, True),
        ({"Host": "workstation"}, True),
        ({"Host": "192.168.1.7"}, True),
        ({"Host": ""}, True),
        ({"Host": "rebound.example.org"}, False),
        ({"Host": "127.0.0.1.example.org:8000"}, False),
        ({"Host": "localhost.example.org"}, False),
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1:8000"}, True),
        ({"Host": "127.0.0.1", "Origin": "http://localhost:3000"}, True),
        ({"Host": "workstation", "Origin": "http://workstation:8000"}, True),
        ({"Host": "127.0.0.1", "Origin": "https://example.org"}, False),
        ({"Host": "127.0.0.1", "Origin": "http://127.0.0.1.example.org"}, False),
        ({"Host": "127.0.0.1", "Origin": "http://localhost@example.org"}, False),
        ({"Host": "127.0.0.1", "Origin": "null"}, False),
        ({"Host": "127.0.0.1", "Origin": ""}, False),
        ({"Host": "127.0.0.1", "Origin": "http://[::1"}, False),
        ({"Host": "127.0.0.1", "Origin": "file://"}, False),
    ],
)
def test_an_open_service_answers_pages_of_this_machine_only(headers: dict[str, str], allowed: bool) -> None:
    response = client_of(Settings()).post("/jobs", headers=headers)
    if allowed:
        assert response.status_code == 200
    else:
        check_problem(response, 403, "origin_not_allowed")


def test_with_a_key_any_name_may_be_used() -> None:
    headers = {"Host": "synesthesia.example.org", "Origin": "https://example.org", "Authorization": f"Bearer {KEY}"}
    assert client_of(KEYED).get("/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize("status", [400, 404, 405, 413, 416, 500, 503])
def test_a_bare_error_of_the_framework_becomes_a_problem(status: int) -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        answer = PlainTextResponse(
            "Internal detail: /root/secret", status, {"Allow": "GET", "Content-Range": "bytes */5", "Set-Cookie": "a=b"}
        )
        await answer(scope, receive, send)

    response = client_of(Settings(), bare).get("/x")
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert "set-cookie" not in response.headers
    assert response.json()["request_id"] == response.headers["x-request-id"]
    if status == 405:
        assert response.headers["allow"] == "GET"
    if status == 416:
        assert response.headers["content-range"] == "bytes */5"


def test_an_answer_that_breaks_off_is_not_made_whole() -> None:
    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        client_of(Settings(), breaking).get("/x")
    metrics = Metrics()
    with contextlib.suppress(RuntimeError):
        TestClient(Gate(breaking, Settings(), metrics)).get("/x")
    assert b'status="200"' in metrics.render({}, 0.0, 0)


def answer_without_reading(settings: Settings, **scope: Any) -> tuple[int, bytes]:
    """Ask the gate for an upload and fail if anything of the body is read before the answer begins."""
    sent: list[Message] = []

    async def receive() -> Message:
        assert sent, "the body was read before the answer"
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    full: dict[str, Any] = {"type": "http", "method": "POST", "path": "/datasets", "query_string": b"", **scope}
    asyncio.run(Gate(echo, settings, Metrics())(full, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        (KEYED, [(b"content-length", b"1000000000")], 401),
        (KEYED, [(b"transfer-encoding", b"chunked")], 401),
        (Settings(), [(b"host", b"evil.example"), (b"content-length", b"1000000000")], 403),
        (Settings(), [(b"content-length", b"99999999999")], 413),
        (Settings(), [(b"content-length", b"nonsense")], 400),
        (Settings(), [(b"content-length", b"5"), (b"content-encoding", b"gzip")], 415),
    ],
)
def test_uploads_are_refused_before_a_byte_is_read(settings: Settings, headers: list[tuple[bytes, bytes]], status: int) -> None:
    answered, body = answer_without_reading(settings, headers=headers)
    assert answered == status
    assert json.loads(body)["status"] == status


def test_a_stranger_s_endless_upload_gets_its_answer_and_no_patience() -> None:
    head = b"POST /datasets HTTP/1.1\r\nHost: x\r\nContent-Type: application/zip\r\nContent-Length: 1000000000\r\n\r\n"
    with serving(Gate(echo, KEYED, Metrics())) as address:
        began = time.monotonic()
        status, headers, body = exchange(address, head, *[b"x" * 65536] * 64)
        assert time.monotonic() - began < 5.0
    check_problem_parts(status, headers, body, "unauthorized")
    assert headers["connection"] == "close"


@pytest.mark.parametrize("head", [b"Content-Length: 20\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_slow_body_gets_408(head: bytes) -> None:
    settings = Settings(body_seconds=0.3)
    with serving(Gate(echo, settings, Metrics())) as address:
        began = time.monotonic()
        status, headers, body = exchange(address, b"POST /jobs HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + b"2\r\nab\r\n")
        assert 0.2 < time.monotonic() - began < 4.0
    check_problem_parts(status, headers, body, "body_timeout")


def chunked(size: int, count: int) -> list[bytes]:
    return [b"%x\r\n" % size + b"x" * size + b"\r\n"] * count + [b"0\r\n\r\n"]


def test_a_chunked_body_beyond_the_limit_gets_413() -> None:
    settings = Settings(max_json_bytes=100_000)
    head = b"POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(Gate(echo, settings, Metrics())) as address:
        status, headers, body = exchange(address, head, *chunked(50_000, 3))
        check_problem_parts(status, headers, body, "body_too_large")
        status, headers, body = exchange(address, head, *chunked(50_000, 2))
        assert (status, body) == (200, b"100000")


@pytest.mark.parametrize(
    "lengths",
    [b"Content-Length: -5\r\n", b"Content-Length: five\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: 0x5\r\n"],
)
def test_lies_about_the_length_are_no_accident_of_ours(lengths: bytes) -> None:
    with serving(Gate(echo, Settings(), Metrics())) as address:
        status, _, _ = exchange(address, b"POST /jobs HTTP/1.1\r\nHost: x\r\n" + lengths + b"\r\nhello")
        assert status == 400
        assert exchange(address, b"GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200


def test_a_body_that_ends_early_does_not_hold_the_service() -> None:
    with serving(Gate(echo, Settings(), Metrics())) as address:
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        assert exchange(address, b"GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200


def test_a_refused_body_that_is_small_leaves_the_connection_open() -> None:
    request = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    with serving(Gate(echo, KEYED, Metrics())) as address, socket.create_connection(address, timeout=5) as connection:
        for _ in range(2):
            connection.sendall(request)
            status, headers, _ = read_answer(connection)
            assert (status, headers.get("connection")) == (401, None)


def test_requests_are_counted_by_template_and_method(settings: Settings, app: Gate, client: TestClient) -> None:
    client.get("/jobs/job_1")
    client.get("/jobs/job_2")
    client.request("INVENTED", "/jobs")
    client.get("/nowhere/job_3")
    text = client.get("/metrics").text
    assert 'synesthesia_requests_total{method="GET",route="/jobs/{job_id}",status="404"} 2.0' in text
    assert 'synesthesia_requests_total{method="other"' in text
    assert not any(word in text for word in ("job_1", "INVENTED", "nowhere"))


def test_scopes_of_other_kinds_are_not_answered(change_setting: Callable[..., Settings]) -> None:
    started: list[str] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        started.append(scope["type"])
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with client_of(Settings(), lifespan):
        pass
    assert started == ["lifespan"]
