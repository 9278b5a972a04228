import asyncio
import contextlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from app import batches as module
from app.batches import Batches, File
from app.lanes import Lanes
from app.main import create_app
from app.metrics import Metrics
from app.predictors import Options, Predictors
from app.schemas.predict import PredictionBatch
from models.errors import SynesthesiaError
from tests.app.conftest import check_problem, serving, wait_until
from tests.conftest import tone, wav_bytes, zip_bytes
from worker.errors import OverloadedError
from worker.settings import Settings

SOUND = wav_bytes(tone(440, 0.5))
OTHER = wav_bytes(tone(900, 0.4))
ZIP = {"Content-Type": "application/zip"}
Upload = tuple[str, tuple[str, bytes]]


@pytest.fixture
def model(make_model: Callable[..., str]) -> str:
    return make_model(alias="default")


def parts(*files: tuple[str, bytes]) -> list[Upload]:
    return [("file", (name, content)) for name, content in files]


def tar_bytes(files: dict[str, bytes], mode: str = "w") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:  # type: ignore[call-overload]  # the mode is no literal here
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def bare(row: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from one asking to the next."""
    return {name: value for name, value in row.items() if name not in ("name", "index", "timings_ms", "model")}


def left(settings: Settings) -> list[Path]:
    return list(settings.scratch_dir.glob("upload-*"))


def test_each_file_has_its_own_answer_or_its_own_problem(client: TestClient, model: str, settings: Settings) -> None:
    sent = parts(("a.wav", SOUND), ("b.txt", b"hello"), ("c.wav", b""), ("d.wav", OTHER), ("a.wav", SOUND[:1000]))
    response = client.post("/predict/batch", files=sent)
    assert response.status_code == 200
    PredictionBatch.model_validate(response.json())
    found = response.json()
    assert (found["object"], found["model"], found["counts"]) == ("prediction_batch", model, {"answered": 2, "failed": 3})
    assert [(row["name"], row["index"]) for row in found["data"]] == [(file[1][0], index) for index, file in enumerate(sent)]
    codes = [row["error"]["code"] if row["object"] == "error" else None for row in found["data"]]
    assert codes == [None, "media_type_unsupported", "audio_empty", None, "audio_truncated"]
    problem = found["data"][1]["error"]
    assert (problem["status"], problem["instance"]) == (415, "/predict/batch")
    assert problem["request_id"] == response.headers["x-request-id"]
    for row, sound in ((found["data"][0], SOUND), (found["data"][3], OTHER)):
        alone = client.post("/predict", content=sound, headers={"Content-Type": "audio/wav"}).json()
        assert bare(row) == bare(alone)
    assert left(settings) == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zip_bytes({"no/a.wav": SOUND, "b.wav": OTHER}), "application/zip"),
        (tar_bytes({"no/a.wav": SOUND, "b.wav": OTHER}), "application/x-tar"),
        (tar_bytes({"no/a.wav": SOUND, "b.wav": OTHER}, "w:gz"), "application/gzip"),
        (tar_bytes({"no/a.wav": SOUND, "b.wav": OTHER}), "application/octet-stream"),
    ],
    ids=["zip", "tar", "tar.gz", "untold"],
)
def test_an_archive_is_answered_member_by_member(client: TestClient, model: str, content: bytes, kind: str, settings: Settings) -> None:
    raw = client.post("/predict/batch", content=content, headers={"Content-Type": kind})
    form = client.post("/predict/batch", files=parts(("x", content)))
    sounds = client.post("/predict/batch", files=parts(("no/a.wav", SOUND), ("b.wav", OTHER))).json()["data"]
    for response in (raw, form):
        assert response.status_code == 200, response.text
        assert [row["name"] for row in response.json()["data"]] == ["no/a.wav", "b.wav"]
        assert [bare(row) for row in response.json()["data"]] == [bare(row) for row in sounds]
    assert left(settings) == []


def test_options_hold_for_every_file(client: TestClient, make_model: Callable[..., str]) -> None:
    model_id = make_model()
    found = client.post(f"/predict/batch?model={model_id}&top_k=1&segments=true", files=parts(("a", SOUND), ("b", SOUND))).json()
    assert [(row["model"], len(row["top_k"]), len(row["segments"])) for row in found["data"]] == [(model_id, 1, 1)] * 2


def test_bad_members_do_not_spoil_an_archive(model: str, change_setting: Callable[..., Settings]) -> None:
    archive = bytearray(zip_bytes({"a.wav": SOUND, "b.wav": OTHER, "c.wav": bytes(2000)}, method=zipfile.ZIP_STORED))
    at = archive.find(OTHER)
    archive[at + 100] ^= 255  # its checksum is then wrong
    with TestClient(create_app(change_setting(max_sound_bytes=len(SOUND)))) as client:
        large = zip_bytes({"a.wav": SOUND, "long.wav": SOUND + bytes(1)})
        codes = [
            [row.get("error", {}).get("code") for row in client.post("/predict/batch", content=body, headers=ZIP).json()["data"]]
            for body in (bytes(archive), large)
        ]
    assert codes == [[None, "media_unreadable", "media_type_unsupported"], [None, "audio_too_large"]]


def test_a_part_that_is_too_large_is_skipped(change_setting: Callable[..., Settings], model: str) -> None:
    with TestClient(create_app(change_setting(max_sound_bytes=len(SOUND)))) as client:
        found = client.post("/predict/batch", files=parts(("a", SOUND + b"x"), ("b", SOUND))).json()
    assert [row["object"] for row in found["data"]] == ["error", "prediction"]
    assert found["data"][0]["error"]["code"] == "audio_too_large"


def test_an_archive_that_breaks_a_rule_later_on_keeps_what_came_before(client: TestClient, model: str) -> None:
    archive = bytearray(zip_bytes({"a.wav": SOUND, "b.wav": OTHER, "c.wav": SOUND}))
    at = archive.find(b"b.wav")
    archive[at : at + 5] = b"x.wav"  # in the local header only: seen when the member is read
    found = client.post("/predict/batch", content=bytes(archive), headers=ZIP).json()
    assert [(row["name"], row["object"]) for row in found["data"]] == [("a.wav", "prediction"), ("b.wav", "error"), ("c.wav", "error")]
    assert {row["error"]["code"] for row in found["data"][1:]} == {"archive_structure"}
    assert found["counts"] == {"answered": 1, "failed": 2}


def test_hostile_and_useless_bodies_are_refused_as_a_whole(client: TestClient, model: str, make_model: Callable[..., str]) -> None:
    seen = make_model(modality="image")
    good = zip_bytes({"a.wav": SOUND})
    cases: list[tuple[bytes, dict[str, str], str, int, str]] = [
        (zip_bytes({"../a.wav": SOUND}), ZIP, "", 422, "archive_path_unsafe"),
        (good[:-10], ZIP, "", 422, "archive_unreadable"),
        (SOUND, ZIP, "", 415, "unsupported_media_type"),
        (good, {"Content-Type": "application/x-tar"}, "", 415, "unsupported_media_type"),
        (SOUND, {"Content-Type": "audio/wav"}, "", 415, "unsupported_media_type"),
        (b"", ZIP, "", 422, "validation_error"),
        (good, ZIP, "?model=nobody", 404, "model_not_found"),
        (good, ZIP, f"?model={seen}", 422, "modality_mismatch"),
        (good, ZIP, "?top_k=0", 422, "validation_error"),
        (good, ZIP, "?topk=1", 422, "validation_error"),
        (good, ZIP | {"Accept": "text/html"}, "", 406, "not_acceptable"),
    ]
    for content, headers, query, status, code in cases:
        check_problem(client.post(f"/predict/batch{query}", content=content, headers=headers), status, code)
    check_problem(client.post("/predict/batch", files={"sound": ("a.wav", SOUND)}), 422, "validation_error")


def test_in_one_piece_only_so_many_are_answered_and_more_as_a_stream(
    client: TestClient, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.routes.batch.MAX_BATCH_FILES", 2)
    three = parts(("a", SOUND), ("b", SOUND), ("c", SOUND))
    archive = zip_bytes({"a": SOUND, "b": SOUND, "c": SOUND})
    check_problem(client.post("/predict/batch", files=three), 422, "validation_error")
    refused = check_problem(client.post("/predict/batch", content=archive, headers=ZIP), 422, "archive_too_many_members")
    assert "application/x-ndjson" in refused["hint"]
    for request in ({"files": three}, {"content": archive}):
        headers = {"Accept": "application/x-ndjson"} | (ZIP if "content" in request else {})
        assert len(client.post("/predict/batch", headers=headers, **request).text.splitlines()) == 4


def test_a_body_beyond_the_limit_is_refused(change_setting: Callable[..., Settings], model: str) -> None:
    with TestClient(create_app(change_setting(max_batch_bytes=1000))) as client:
        check_problem(client.post("/predict/batch", content=bytes(70_000), headers=ZIP), 413, "body_too_large")


def test_a_stream_gives_the_same_answers(client: TestClient, model: str, settings: Settings) -> None:
    sent = parts(("ä.wav", SOUND), ("b", b"nothing"))
    whole = client.post("/predict/batch", files=sent).json()
    events = client.post("/predict/batch", files=sent, headers={"Accept": "text/event-stream"})
    lines = client.post("/predict/batch", files=sent, headers={"Accept": "application/x-ndjson"})
    assert (events.headers["content-type"], lines.headers["content-type"]) == ("text/event-stream; charset=utf-8", "application/x-ndjson")
    *messages, rest = events.text.split("\n\n")
    assert rest == ""
    assert [message.split("\n")[:-1] for message in messages] == [
        ["id: 0", "event: prediction"], ["id: 1", "event: prediction"], ["event: done"],
    ]  # fmt: skip
    for rows in ([message.rpartition("data: ")[2] for message in messages], lines.text.splitlines()):
        first, second, end = (json.loads(row) for row in rows)
        assert bare(first) == bare(whole["data"][0])
        assert (first["name"], second["object"], second["error"]["code"]) == ("ä.wav", "error", "media_type_unsupported")
        assert end == {"object": "done", "model": model, "counts": {"answered": 1, "failed": 1}}
    assert left(settings) == []


def test_a_stream_sends_each_answer_when_it_is_made(settings: Settings, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    original = module._parts

    def held_up(*arguments: Any) -> Any:
        for number, file in enumerate(original(*arguments)):
            if number:
                assert gate.wait(10)
            yield file

    monkeypatch.setattr(module, "_parts", held_up)
    sent = parts(("a", SOUND), ("b", SOUND))
    app = create_app(settings)
    app.app.state.lanes.count = 1  # type: ignore[attr-defined]  # with more, the second file is read beside the first one's prediction
    with (
        serving(app) as (host, port),
        httpx2.Client(base_url=f"http://{host}:{port}", timeout=10) as client,
        client.stream("POST", "/predict/batch", files=sent, headers={"Accept": "application/x-ndjson"}) as response,
    ):
        lines = response.iter_lines()
        assert json.loads(next(lines))["index"] == 0
        assert len(left(settings)) == 1
        gate.set()
        assert [json.loads(line)["object"] for line in lines] == ["prediction", "done"]
    assert left(settings) == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(settings: Settings, model: str) -> None:
    sent = parts(*((str(number), SOUND) for number in range(300)))
    with serving(create_app(settings)) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}", timeout=10) as client:
        with client.stream("POST", "/predict/batch", files=sent, headers={"Accept": "application/x-ndjson"}) as response:
            next(response.iter_lines())
        wait_until(lambda: left(settings) == [], what="the upload to go")
        for _ in range(module.MAX_BATCHES + 1):  # no room was lost
            assert client.post("/predict/batch", files=sent[:1]).status_code == 200


def test_one_model_answers_although_its_alias_moves(settings: Settings, make_model: Callable[..., str]) -> None:
    first, second = make_model(alias="default"), make_model()
    predictors = Predictors(settings, Metrics())

    async def run() -> list[str]:
        from worker import aliases

        models = []
        files = iter([File(str(number), SOUND) for number in range(4)])
        async for row in Batches(predictors, Lanes()).answers(files, first, Options(), lambda error: {"code": error.code}):
            models.append(row["model"])
            aliases.set_alias("default", second)
            predictors.forget()
        return models

    assert asyncio.run(run()) == [first] * 4


class Slow(Predictors):
    """Predictors that count how many predictions run at once, and are busy when told."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Metrics())
        self.running = self.most = self.refusals = 0

    async def predict(self, name: str | None, data: bytes, options: Options) -> dict[str, Any]:
        if self.refusals:
            self.refusals -= 1
            raise OverloadedError("busy")
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01 if data == b"short" else 0.03)
        self.running -= 1
        return {"object": "prediction", "data": data}


def collect(batches: Batches, *contents: bytes | SynesthesiaError) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        files = iter([File(None, content) for content in contents])
        return [row async for row in batches.answers(files, "m", Options(), lambda error: {"code": error.code})]

    return asyncio.run(run())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_more_run_at_once_than_there_are_lanes_and_order_is_kept(settings: Settings, count: int) -> None:
    predictors, lanes = Slow(settings), Lanes()
    lanes.count, lanes._free = count, asyncio.Semaphore(count)
    batches = Batches(predictors, lanes)

    async def several() -> list[list[dict[str, Any]]]:
        async def one() -> list[dict[str, Any]]:
            files = iter([File(None, content) for content in (b"long", b"short", b"short", b"long", b"short")])
            return [row async for row in batches.answers(files, "m", Options(), lambda _: {})]

        return await asyncio.gather(one(), one())

    for rows in asyncio.run(several()):
        assert [(row["index"], row["data"]) for row in rows] == list(enumerate((b"long", b"short", b"short", b"long", b"short")))
    assert predictors.most == count


def test_a_file_waits_while_single_predictions_take_all(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0.001,) * 3)
    predictors = Slow(settings)
    predictors.refusals = 3
    assert [row["object"] for row in collect(Batches(predictors, Lanes()), b"short", b"short")] == ["prediction"] * 2
    predictors.refusals = 4
    rows = collect(Batches(predictors, Lanes()), b"short", b"short")
    assert [row.get("error") for row in rows] == [{"code": "overloaded"}, None]


def test_lanes_are_given_back_whenever_a_batch_ends(settings: Settings) -> None:
    predictors, lanes = Slow(settings), Lanes()
    lanes.count, lanes._free = 2, asyncio.Semaphore(2)

    async def run() -> None:
        answers = Batches(predictors, lanes).answers(iter([File(None, b"short")] * 9), "m", Options(), lambda _: {})
        await anext(answers)
        await answers.aclose()
        async with asyncio.timeout(1):
            await lanes.take()
            await lanes.take()

    asyncio.run(run())


def test_what_is_no_expected_error_is_not_hidden(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    predictors = Slow(settings)

    async def broken(*_: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setattr(predictors, "predict", broken)
    with pytest.raises(ZeroDivisionError):
        collect(Batches(predictors, Lanes()), b"short")


def test_only_so_many_batches_at_once(settings: Settings) -> None:
    batches = Batches(Slow(settings), Lanes())
    with contextlib.ExitStack() as held:
        for _ in range(module.MAX_BATCHES):
            held.enter_context(batches.room())
        with pytest.raises(OverloadedError):
            held.enter_context(batches.room())
    with batches.room():
        pass


def test_silence_in_a_batch_is_an_answer_with_a_warning(client: TestClient, model: str) -> None:
    found = client.post("/predict/batch", files=parts(("a", wav_bytes(np.zeros(8000))))).json()
    assert found["data"][0]["warnings"] == ["silence"]
