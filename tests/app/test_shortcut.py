"""The short way: plain requests take it, all others get the route's own answer, body and all."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app import main
from app.gate import Gate
from app.routes.predict import ROUTE
from app.shortcut import Shortcut, _only_file
from tests.app.conftest import check_problem
from tests.conftest import tone, wav_bytes
from worker.settings import Settings

SOUND = wav_bytes(tone(440, 0.5))
WAV = {"Content-Type": "audio/wav"}


class Long:
    """The framework behind the short way, counting what comes through."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.seen = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/predict":
            self.seen += 1
        await self.api(scope, receive, send)


@pytest.fixture
def long_way(settings: Settings) -> Long:
    return Long(main.create_api(settings))


@pytest.fixture
def both(settings: Settings, long_way: Long, make_model: Callable[..., str]) -> Iterator[tuple[TestClient, TestClient]]:
    """Clients of the same application: with the short way, and without it."""
    make_model(alias="default")
    state = long_way.api.state
    with TestClient(Gate(Shortcut(long_way, ROUTE, state.predictors), settings, state.metrics)) as short:
        yield short, TestClient(Gate(long_way, settings, state.metrics))


def part(headers: str, content: bytes = SOUND, boundary: str = "XX", end: str = "\r\n--XX--\r\n") -> bytes:
    return f"--{boundary}\r\n{headers}\r\n\r\n".encode() + content + end.encode()


FILE = 'Content-Disposition: form-data; name="file"'
FORM = {"Content-Type": "multipart/form-data; boundary=XX"}
PLAIN = [
    ("", SOUND, WAV),
    ("?top_k=2", SOUND, {"Content-Type": "application/octet-stream"}),
    ("?segments=true&model=default", SOUND, {"Content-Type": "Audio/X-Wav"}),
    ("", part(FILE), FORM),
    ("?top_k=1", part(f'{FILE}; filename="a b.wav"\r\nContent-Type: audio/wav'), FORM),
    ("", part(FILE.lower(), end="\r\n--XX--"), FORM),
]
OTHERS = [
    ("?top_k=0", SOUND, WAV),
    ("?top_k=1&top_k=2", SOUND, WAV),
    ("?top_k=1000", SOUND, WAV),
    ("?segments=1", SOUND, WAV),
    ("?segments=True", SOUND, WAV),
    ("?unknown=1", SOUND, WAV),
    ("?model=", SOUND, WAV),
    ("?model=..%2Fx", SOUND, WAV),
    ("?%FF", SOUND, WAV),
    ("", SOUND, {"Content-Type": "image/png"}),
    ("", SOUND, {"Content-Type": "audio/wav; codecs=1"}),
    ("", SOUND, {}),
    ("", SOUND, FORM),
    ("", b"", FORM),
    ("", part(FILE), {"Content-Type": 'multipart/form-data; boundary="XX"'}),
    ("", part(FILE), {"Content-Type": "multipart/form-data"}),
    ("", part(f"X-A: b\r\n{FILE}"), FORM),
    ("", part(f"{FILE}; filename*=UTF-8''a.wav"), FORM),
    ("", part(FILE.replace("file", "sound")), FORM),
    ("", part(FILE, end="\r\n--XX"), FORM),
    ("", part(FILE, end=""), FORM),
    ("", part(FILE) + b"epilogue", FORM),
    ("", b"preamble\r\n" + part(FILE), FORM),
    ("", part(FILE, end="\r\n") + part(FILE), FORM),
    ("", part(FILE, end="\r\n") + part('Content-Disposition: form-data; name="note"', b"x"), FORM),
    ("", part(FILE, SOUND + b"\r\n--XX" + SOUND), FORM),
]


def settled(response: Any) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    return {name: value for name, value in body.items() if name not in ("timings_ms", "request_id")}


@pytest.mark.parametrize(("query", "body", "headers"), PLAIN)
def test_plain_requests_take_it_and_get_the_same_answer(
    both: tuple[TestClient, TestClient], long_way: Long, query: str, body: bytes, headers: dict[str, str]
) -> None:
    short, full = both
    found = short.post(f"/predict{query}", content=body, headers=headers)
    assert (found.status_code, long_way.seen) == (200, 0)
    expected = full.post(f"/predict{query}", content=body, headers=headers)
    assert (long_way.seen, settled(found)) == (1, settled(expected))
    names = ("content-type", "x-content-type-options", "content-length", "x-request-id")
    assert all(name in found.headers for name in names)
    assert found.headers["content-type"] == expected.headers["content-type"]


@pytest.mark.parametrize(("query", "body", "headers"), OTHERS)
def test_all_others_get_the_routes_own_answer(
    both: tuple[TestClient, TestClient], long_way: Long, query: str, body: bytes, headers: dict[str, str]
) -> None:
    short, full = both
    found = short.post(f"/predict{query}", content=body, headers=headers)
    assert long_way.seen == 1
    expected = full.post(f"/predict{query}", content=body, headers=headers)
    assert (found.status_code, settled(found)) == (expected.status_code, settled(expected))


def test_its_errors_are_problems(both: tuple[TestClient, TestClient], long_way: Long) -> None:
    short, full = both
    for query, body, status, code in (
        ("?model=nobody", SOUND, 404, "model_not_found"),
        ("", SOUND[:1000], 422, "audio_truncated"),
        ("", b"hello", 415, "media_type_unsupported"),
        ("", b"", 422, "audio_empty"),
    ):
        found = check_problem(short.post(f"/predict{query}", content=body, headers=WAV), status, code)
        expected = full.post(f"/predict{query}", content=body, headers=WAV)
        assert {**found, "request_id": None} == {**expected.json(), "request_id": None}
    assert long_way.seen == 4, "only the client without the short way came through"


def test_it_is_counted_under_the_routes_name(both: tuple[TestClient, TestClient]) -> None:
    short, _ = both
    short.post("/predict", content=SOUND, headers=WAV)
    text = short.get("/metrics").text
    assert 'synesthesia_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'synesthesia_predictions_total{outcome="answered"} 1.0' in text


def test_other_methods_go_on(both: tuple[TestClient, TestClient], long_way: Long) -> None:
    short, _ = both
    check_problem(short.get("/predict"), 405, "method_not_allowed")
    assert long_way.seen == 1


def test_too_many_are_refused_before_the_body_is_read(both: tuple[TestClient, TestClient], long_way: Long) -> None:
    short, _ = both
    long_way.api.state.predictors._queue.owed = 1e6
    body = check_problem(short.post("/predict", content=SOUND, headers=WAV), 503, "overloaded")
    assert "in time" in body["detail"]


def test_a_file_that_holds_the_boundary_is_no_plain_form() -> None:
    assert _only_file(part(FILE, b"abc"), b"--XX") == b"abc"
    assert _only_file(part(FILE, b""), b"--XX") == b""
    assert _only_file(part(FILE, b"a--XXb"), b"--XX") == b"a--XXb", "only a line that begins with it ends a part"
    assert _only_file(part(FILE, b"a\r\n--XX--\r\nb"), b"--XX") is None


def test_the_contract_still_describes_it(both: tuple[TestClient, TestClient]) -> None:
    short, _ = both
    assert "post" in json.loads(short.get("/openapi.json").content)["paths"]["/predict"]
