"""The door: plain requests are answered by it, all others get the route's own answer, body and all."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from app.main import create_app
from app.plain import MAX_BYTES, only_file
from app.protocol import Protocol
from tests.app.conftest import check_problem, exchange, serving
from tests.conftest import tone, wav_bytes
from worker.settings import Settings

SOUND = wav_bytes(tone(440, 0.5))
WAV = {"Content-Type": "audio/wav"}


class Long:
    """The framework, counting the predictions that come through."""

    def __init__(self, api: ASGIApp) -> None:
        self.api = api
        self.seen = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/predict":
            self.seen += 1
        await self.api(scope, receive, send)


class Both:
    """One service, asked through the door and past it."""

    def __init__(self, address: tuple[str, int], api: Any) -> None:
        self.client = httpx2.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=20)
        self.api = api
        self.framework: Long = api.app

    def short(self, query: str, content: bytes, headers: dict[str, str] = WAV) -> httpx2.Response:
        """Ask as the server sees fit."""
        return self.client.post(f"/predict{query}", content=content, headers=headers)

    def long(self, query: str, content: bytes, headers: dict[str, str] = WAV) -> httpx2.Response:
        """Ask in a form that is never plain: without a length."""
        return self.client.post(f"/predict{query}", content=iter([content]), headers=headers)


@pytest.fixture
def both(settings: Settings, make_model: Callable[..., str]) -> Iterator[Both]:
    make_model(alias="default")
    gate = create_app(settings)
    gate.app = Long(gate.app)
    with serving(gate, http=Protocol) as address:
        service = Both(address, gate)
        with service.client:
            assert service.short("", SOUND).status_code == 200, "which loads the engine, if the background has not"
            service.framework.seen = 0
            yield service


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
def test_plain_requests_take_it_and_get_the_same_answer(both: Both, query: str, body: bytes, headers: dict[str, str]) -> None:
    found = both.short(query, body, headers)
    assert (found.status_code, both.framework.seen) == (200, 0)
    expected = both.long(query, body, headers)
    assert (both.framework.seen, settled(found)) == (1, settled(expected))
    assert set(found.headers) == set(expected.headers)
    own = ("date", "content-length", "x-request-id")
    assert {name: value for name, value in found.headers.items() if name not in own} == {
        name: value for name, value in expected.headers.items() if name not in own
    }
    assert int(found.headers["content-length"]) == len(found.content)


@pytest.mark.parametrize(("query", "body", "headers"), OTHERS)
def test_all_others_get_the_routes_own_answer(both: Both, query: str, body: bytes, headers: dict[str, str]) -> None:
    found = both.short(query, body, headers)
    assert both.framework.seen == 1
    expected = both.long(query, body, headers)
    assert (found.status_code, settled(found)) == (expected.status_code, settled(expected))


def test_its_errors_are_problems(both: Both) -> None:
    for content, status, code in (
        (SOUND[:1000], 422, "audio_truncated"),
        (b"hello", 415, "media_type_unsupported"),
        (b"", 422, "audio_empty"),
    ):
        found = check_problem(both.short("", content), status, code)
        assert {**found, "request_id": None} == {**both.long("", content).json(), "request_id": None}
    assert both.framework.seen == 3, "only those without a length came through"
    check_problem(both.short("?model=nobody", SOUND), 404, "model_not_found")
    assert both.framework.seen == 4, "a model has to be looked up in a thread"


def test_what_goes_wrong_inside_is_a_500_under_its_request_id(both: Both, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret cause")

    for engine in both.framework.api.state.predictors.engines._shelf._held.values():  # type: ignore[attr-defined]
        engine.engine.predict_many = fail
    answer = both.client.post("/predict", content=SOUND, headers={**WAV, "X-Request-ID": "mine"})
    body = check_problem(answer, 500, "internal")
    assert (body["request_id"], both.framework.seen) == ("mine", 0)
    assert "secret" not in answer.text


def test_it_is_counted_as_the_route_is(both: Both) -> None:
    before = _counts(both)
    both.short("", SOUND)
    both.short("", b"hello")
    both.long("", SOUND)
    after = _counts(both)
    assert [after[name] - before[name] for name in COUNTED] == [2, 1, 2, 1]


COUNTED = (
    'synesthesia_requests_total{method="POST",route="/predict",status="200"}',
    'synesthesia_requests_total{method="POST",route="/predict",status="415"}',
    'synesthesia_predictions_total{outcome="answered"}',
    'synesthesia_predictions_total{outcome="media_type_unsupported"}',
)


def _counts(both: Both) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in both.client.get("/metrics").text.splitlines()]
    found = {name: float(value) for name, _, value in lines if name in COUNTED}
    return {name: found.get(name, 0.0) for name in COUNTED}


def test_other_methods_go_on(both: Both) -> None:
    check_problem(both.client.get("/predict"), 405, "method_not_allowed")
    assert both.framework.seen == 1


def test_a_body_that_comes_in_pieces_is_taken_and_a_slow_one_is_sent_on(both: Both) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: %d\r\n\r\n" % len(SOUND)
    address = (both.client.base_url.host, both.client.base_url.port)
    for pause, seen in ((0.05, 0), (1.2, 1)):
        assert exchange(address, head[:30], head[30:], SOUND[:100], SOUND[100:], pause=pause)[0] == 200
        assert both.framework.seen == seen
    assert both.framework.api.state.predictors._waiting_bytes == 0  # type: ignore[attr-defined]


def test_too_large_a_body_is_the_routes_to_refuse(both: Both) -> None:
    assert both.short("", bytes(MAX_BYTES + 1)).status_code == 415
    assert both.framework.seen == 1


def test_a_connection_that_should_close_is_closed(both: Both) -> None:
    address = (both.client.base_url.host, both.client.base_url.port)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: audio/wav\r\nContent-Length: 2\r\n\r\nab"
    assert exchange(address, head)[1]["connection"] == "close"


def test_callers_without_the_key_are_refused_as_everywhere(settings: Settings, make_model: Callable[..., str]) -> None:
    make_model(alias="default")
    closed = settings.model_copy(update={"api_key": SecretStr("secret"), "auth": "keys"})
    with serving(create_app(closed), http=Protocol) as address, httpx2.Client(base_url=f"http://{address[0]}:{address[1]}") as client:
        for headers, status in (
            (WAV, 401),
            ({**WAV, "Authorization": "Bearer wrong"}, 401),
            ({**WAV, "Authorization": "Bearer secret"}, 200),
        ):
            for _ in range(2):  # the second one finds the engine at hand
                assert client.post("/predict", content=SOUND, headers=headers).status_code == status


def test_too_many_are_refused(both: Both) -> None:
    both.framework.api.state.predictors._queue.owed = 1e6  # type: ignore[attr-defined]
    for ask in (both.short, both.long):
        assert "in time" in check_problem(ask("", SOUND), 503, "overloaded")["detail"]


def test_a_file_that_holds_the_boundary_is_no_plain_form() -> None:
    assert only_file(part(FILE, b"abc"), b"--XX") == b"abc"
    assert only_file(part(FILE, b""), b"--XX") == b""
    assert only_file(part(FILE, b"a--XXb"), b"--XX") == b"a--XXb", "only a line that begins with it ends a part"
    assert only_file(part(FILE, b"a\r\n--XX--\r\nb"), b"--XX") is None
