import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import websockets
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.types import ASGIApp
from starlette.websockets import WebSocketDisconnect

from app import listening
from app.listening import MAX_BEHIND_SECONDS, MAX_MESSAGE_BYTES, Lag
from app.main import create_app
from models.audio import from_pcm16, to_pcm16
from models.engine import Engine
from models.streaming_detector import Detection, Tuning, offline
from tests.app.conftest import LABELS, check_problem, serving, wait_until
from tests.conftest import RATE, tone, wav_bytes
from tests.models.test_streaming_audio import RECORDED
from worker.settings import Settings

TUNING = {"enter": 0.36, "leave": 0.46, "refractory_seconds": 0.1}  # random weights hardly tell sounds apart: detect what there is


def scene(rate: int = RATE) -> bytes:
    quiet = np.zeros(round(0.3 * rate), np.float32)
    sounds = (tone(hertz, 0.3, rate=rate) for hertz in (400, 900, 2000, 3500))
    return to_pcm16(np.concatenate([part for sound in sounds for part in (quiet, sound)] + [quiet])).tobytes()


PCM = scene()


@pytest.fixture
def model(make_model: Callable[..., str]) -> str:
    return make_model(alias="default")


@contextlib.contextmanager
def opened(client: TestClient, query: str = "", **options: Any) -> Iterator[WebSocketTestSession]:
    with client.websocket_connect(f"/predict/stream{query}", **options) as socket:
        assert socket.receive_json()["type"] == "ready"
        yield socket


def rest(socket: WebSocketTestSession) -> list[dict[str, Any]]:
    """Read to the end of the conversation."""
    found = []
    while not found or found[-1]["type"] not in ("end", "error"):
        found.append(socket.receive_json())
    return found


def listen(client: TestClient, data: bytes, size: int = 640, **start: Any) -> list[dict[str, Any]]:
    with opened(client) as socket:
        socket.send_json({"type": "start", **TUNING, **start})
        for at in range(0, len(data), size):
            socket.send_bytes(data[at : at + size])
        socket.send_json({"type": "stop"})
        return rest(socket)


def of(kind: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == kind]


def wanted(artifact: Path, pcm: bytes) -> list[Detection]:
    found = offline(Engine.load(artifact), from_pcm16(np.frombuffer(pcm, np.int16)), Tuning(**TUNING))
    assert len(found) > 1, "the scene holds something to detect"
    return found


def test_the_stream_tells_who_listens(client: TestClient, model: str) -> None:
    for query in ("", "?model=default", f"?model={model}"):
        with client.websocket_connect(f"/predict/stream{query}") as socket:
            assert socket.receive_json() == {"type": "ready", "model": model, "labels": list(LABELS), "sample_rate": RATE}
            socket.send_json({"type": "stop"})
            assert rest(socket) == [{"type": "end", "position": 0.0, "samples": 0, "detections": 0}]


@pytest.mark.parametrize("size", [100, 640, 2560, MAX_MESSAGE_BYTES])
def test_detections_are_those_of_the_whole(client: TestClient, model: str, speech_artifact: Path, size: int) -> None:
    messages = listen(client, PCM, size)
    found = of("detection", messages)
    names = ("label", "probability", "start", "end", "position")
    expected = [(d.label, *(round(getattr(d, name), 6) for name in names[1:])) for d in wanted(speech_artifact, PCM)]
    assert [tuple(message[name] for name in names) for message in found] == expected
    assert [m["sequence"] for m in found] == list(range(len(found)))
    assert messages[-1] == {"type": "end", "position": 2.7, "samples": round(2.7 * RATE), "detections": len(found)}


def test_without_a_start_sound_is_pcm_at_16_khz(client: TestClient, model: str) -> None:
    with opened(client) as socket:
        socket.send_bytes(PCM[: 4 * RATE])
        socket.send_json({"type": "stop"})
        assert rest(socket)[-1]["position"] == 2.0


def test_detections_come_while_sound_is_sent(client: TestClient, model: str) -> None:
    with opened(client) as socket:
        socket.send_json({"type": "start", **TUNING})
        assert socket.receive_json()["type"] == "started"
        socket.send_bytes(PCM[: 2 * RATE])
        assert socket.receive_json()["type"] == "detection", "and the stream was not stopped"


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (192000, 1)])
def test_rates_and_channels(client: TestClient, model: str, rate: int, channels: int) -> None:
    samples = np.repeat(np.frombuffer(scene(rate), np.int16), channels)
    messages = listen(client, samples.tobytes(), 4 * rate // 50, sample_rate=rate, channels=channels)
    assert messages[0] == {"type": "started", "encoding": "pcm_s16le", "sample_rate": rate, "channels": channels, "position": 0.0}
    assert messages[-1]["samples"] == len(samples) // channels
    assert of("detection", messages)


def test_what_a_browser_records(client: TestClient, model: str) -> None:
    messages = listen(client, RECORDED, 333, encoding="webm")
    assert messages[-1]["type"] == "end"
    assert 0.6 <= messages[-1]["position"] < 0.65
    assert of("detection", messages)


def test_the_clock_goes_on_after_a_gap(client: TestClient, model: str) -> None:
    plain, resumed = listen(client, PCM), listen(client, PCM, resume_from=100.5)
    assert resumed[0]["position"] == 100.5
    for before, after in zip(of("detection", plain), of("detection", resumed), strict=True):
        assert [after[name] - before[name] for name in ("start", "end", "position")] == [pytest.approx(100.5)] * 3
    assert [message["position"] for message in of("position", resumed)] == [pytest.approx(101.5), pytest.approx(102.5)]
    assert resumed[-1]["position"] == pytest.approx(103.2)


def test_a_stream_keeps_its_model_when_the_alias_moves(client: TestClient, model: str, make_model: Callable[..., str]) -> None:
    with opened(client) as socket:
        second = make_model()
        assert client.put("/aliases/default", json={"model": second}).status_code == 200
        socket.send_bytes(PCM[: 4 * RATE])
        socket.send_json({"type": "stop"})
        assert rest(socket)[-1]["type"] == "end"
    with client.websocket_connect("/predict/stream") as socket:
        assert socket.receive_json()["model"] == second


@pytest.mark.parametrize(
    ("said", "code", "close"),
    [
        ("{", "malformed_json", 1007),
        ("", "malformed_json", 1007),
        ('{"type":"start","type":"stop"}', "malformed_json", 1007),
        ('{"type":"begin"}', "validation_error", 1007),
        ('{"type":"start","sample_rate":7999}', "validation_error", 1007),
        ('{"type":"start","sample_rate":"16000"}', "validation_error", 1007),
        ('{"type":"start","encoding":"mp3"}', "validation_error", 1007),
        ('{"type":"start","channels":9}', "validation_error", 1007),
        ('{"type":"start","resume_from":-1}', "validation_error", 1007),
        ('{"type":"start","enter":0}', "validation_error", 1007),
        ('{"type":"start","volume":1}', "validation_error", 1007),
        ('{"type":"stop","now":true}', "validation_error", 1007),
        (bytes(MAX_MESSAGE_BYTES + 1), "body_too_large", 1009),
    ],
)
def test_what_is_said_wrongly(client: TestClient, model: str, said: str | bytes, code: str, close: int) -> None:
    with opened(client) as socket:
        socket.send_text(said) if isinstance(said, str) else socket.send_bytes(said)
        check_end(socket, code, close)


def check_end(socket: WebSocketTestSession, code: str, close: int) -> dict[str, Any]:
    """The last message is a problem, and then the connection is closed with `close`."""
    error = rest(socket)[-1]
    assert (error["type"], error["code"], error["problem"]) == ("error", code, f"/problems#{code}")
    assert error["request_id"]
    assert {"title", "status", "detail", "instance"} <= error.keys()
    with pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_json()
    assert (caught.value.code, caught.value.reason) == (close, code)
    return error


@pytest.mark.parametrize(
    ("encoding", "sound", "code", "close"),
    [
        ("webm", b"RIFF1234WAVEfmt ", "media_type_unsupported", 1003),
        ("webm", RECORDED[:200] + b"\0" * 100, "audio_unreadable", 1007),
        ("pcm_s16le", b"\0", "audio_truncated", 1007),
    ],
)
def test_broken_bytes(client: TestClient, model: str, encoding: str, sound: bytes, code: str, close: int) -> None:
    with opened(client) as socket:
        socket.send_json({"type": "start", "encoding": encoding})
        socket.send_bytes(sound)
        socket.send_json({"type": "stop"})
        check_end(socket, code, close)


def test_a_stream_is_started_once(client: TestClient, model: str) -> None:
    for first in ({"json": True}, {"json": False}):
        with opened(client) as socket:
            socket.send_json({"type": "start"}) if first["json"] else socket.send_bytes(b"")
            socket.send_json({"type": "start"})
            check_end(socket, "state_conflict", 1008)


def refused(client: TestClient, query: str, status: int, code: str) -> None:
    with pytest.raises(WebSocketDisconnect) as caught, opened(client, query):
        pass
    check_problem(caught.value, status, code)  # type: ignore[arg-type]  # starlette's is a response as well


def test_models_that_can_t_be_had(client: TestClient, make_model: Callable[..., str]) -> None:
    refused(client, "", 404, "no_default_model")
    refused(client, "?model=mdl_absent", 404, "model_not_found")
    refused(client, "?model=..%2F", 404, "model_not_found")
    refused(client, f"?model={make_model(modality='image')}", 422, "modality_mismatch")
    refused(client, "?model=a&model=b", 422, "validation_error")
    refused(client, "?modle=a", 422, "validation_error")


def test_so_many_streams_and_no_more(change_setting: Callable[..., Settings], make_model: Callable[..., str]) -> None:
    settings = change_setting(max_streams=2)
    make_model(alias="default")
    with TestClient(create_app(settings)) as client:
        with opened(client), opened(client):
            refused(client, "", 503, "overloaded")
            assert "synesthesia_streams_open 2.0" in client.get("/metrics").text
        with opened(client) as socket:
            socket.send_json({"type": "start", **TUNING})
            socket.send_bytes(PCM[: 4 * RATE])
            socket.send_json({"type": "stop"})
            count = rest(socket)[-1]["detections"]
        shown = client.get("/metrics").text
        assert f"synesthesia_detections_total {count}.0" in shown
        assert "synesthesia_streams_open 0.0" in shown
        assert client.get("/limits").json()["limits"]["max_streams"] == 2


def test_silent_clients_are_let_go(client: TestClient, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "IDLE_SECONDS", 0.1)
    with opened(client) as socket:
        check_end(socket, "stream_idle", 1008)


def test_models_run_off_the_event_loop(client: TestClient, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    original = Engine.probabilities

    def watched(self: Engine, inputs: Any) -> Any:
        threads.add(threading.current_thread().name)
        return original(self, inputs)

    monkeypatch.setattr(Engine, "probabilities", watched)
    listen(client, PCM)
    assert threads
    assert all(name.startswith(("stream", "asyncio_")) for name in threads), threads  # the latter load models


def test_a_delay_that_grows_is_told_once() -> None:
    lag = Lag()
    told = [lag.heard(100 + 1.2 * index, index) for index in range(20)]
    assert [round(delay, 6) for delay in told if delay is not None] == [2.2], "at the first that is above two seconds"
    lag = Lag()
    assert [lag.heard(100 + index / 50, index) for index in range(20)] == [None] * 20, "faster than real time is no delay"
    lag.came(110.0, 120.0)
    assert lag.heard(120.0, 20) is None, "a pause of the client is none either"
    assert lag.heard(120.0 + 1.01 * MAX_BEHIND_SECONDS, 20) is not None


def test_a_stream_that_falls_behind_is_told(client: TestClient, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_BEHIND_SECONDS", 0.1)
    original = Engine.probabilities

    def slow(self: Engine, inputs: Any) -> Any:
        time.sleep(0.12)
        return original(self, inputs)

    monkeypatch.setattr(Engine, "probabilities", slow)
    behind = of("behind", listen(client, PCM[: 2 * RATE], 2560))
    assert behind
    assert behind[0]["seconds"] > 0.1


async def talk(address: tuple[str, int], **options: Any) -> tuple[list[dict[str, Any]], int]:
    url = f"ws://{address[0]}:{address[1]}/predict/stream"
    async with websockets.connect(url, **options) as socket:
        await socket.send(json.dumps({"type": "start", **TUNING}))
        for at in range(0, len(PCM), 640):
            await socket.send(PCM[at : at + 640])
        await socket.send('{"type":"stop"}')
        return [json.loads(message) async for message in socket], socket.close_code or 0


def test_a_real_client_at_a_real_server(live: tuple[str, int], model: str, speech_artifact: Path) -> None:
    messages, code = asyncio.run(talk(live))
    assert (messages[0]["type"], messages[-1]["type"], code) == ("ready", "end", 1000)
    assert [m["label"] for m in of("detection", messages)] == [found.label for found in wanted(speech_artifact, PCM)]


def test_a_client_that_is_too_fast_is_slowed(live: tuple[str, int], model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Engine.probabilities

    def slow(self: Engine, inputs: Any) -> Any:
        time.sleep(0.02)
        return original(self, inputs)

    async def flood() -> int:
        beats = np.tile(np.repeat(np.array([0, 8000, -8000, 0], np.int16), 2048), 4).tobytes()  # steady noise would run no model
        assert len(beats) == MAX_MESSAGE_BYTES
        sent = 0
        socket = await websockets.connect(f"ws://{live[0]}:{live[1]}/predict/stream", compression=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while sent < 2000:
                    await socket.send(beats)
                    sent += 1
        socket.transport.abort()
        return sent

    monkeypatch.setattr(Engine, "probabilities", slow)
    assert asyncio.run(flood()) < 1000, "64 MB are more than what systems keep for a connection"


def test_the_client_of_the_documentation_works(live: tuple[str, int], model: str, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "streaming.md").read_text("utf-8")
    (tmp_path / "listen.py").write_text(page.split("```python\n")[1].split("```")[0], "utf-8")
    (tmp_path / "speech.wav").write_bytes(wav_bytes(np.frombuffer(PCM[: 2 * RATE], np.int16)))
    command = [sys.executable, "listen.py", "speech.wav", f"ws://{live[0]}:{live[1]}/predict/stream"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_real_client_is_refused_by_status(app: ASGIApp) -> None:
    with serving(app) as address, pytest.raises(websockets.InvalidStatus) as caught:
        asyncio.run(talk(address))
    assert caught.value.response.status_code == 404
    assert json.loads(caught.value.response.body)["code"] == "no_default_model"


def test_a_real_client_shows_its_key(settings: Settings, model: str) -> None:
    keyed = Settings(**{**settings.model_dump(), "api_key": "syn_key"})
    with serving(create_app(keyed)) as address:
        messages, code = asyncio.run(talk(address, subprotocols=["synesthesia.v1", "bearer.syn_key"]))
        assert (messages[-1]["type"], code) == ("end", 1000)
        with pytest.raises(websockets.InvalidStatus) as caught:
            asyncio.run(talk(address))
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"


def test_a_client_that_is_gone_frees_its_place(live: tuple[str, int], model: str, app: ASGIApp) -> None:
    async def leave() -> None:
        for _ in range(3):
            socket = await websockets.connect(f"ws://{live[0]}:{live[1]}/predict/stream")
            await socket.send(PCM[:2560])
            socket.transport.abort()

    asyncio.run(leave())
    wait_until(lambda: "synesthesia_streams_open 0.0" in httpx2.get(f"http://{live[0]}:{live[1]}/metrics").text, what="the places")
