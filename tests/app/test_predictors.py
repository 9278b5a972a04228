import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import engines
from app import predictors as module
from app.filebody import FileBody
from app.hearing import Options, judged, ranked
from app.metrics import Metrics
from app.predictors import Predictors
from models.config import ModelManifest
from models.engine import Engine
from tests.app.conftest import request_of
from tests.conftest import tone, wav_bytes
from worker.errors import DependencyError, OverloadedError
from worker.settings import Settings

SOUND = wav_bytes(tone(440, 0.5))


@pytest.fixture
def predictors(settings: Settings) -> Predictors:
    return Predictors(settings, Metrics())


def ask(predictors: Predictors, name: str | None = None, count: int = 1, **options: Any) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        return await asyncio.gather(*(predictors.predict(name, SOUND, Options(**options)) for _ in range(count)))

    return asyncio.run(run())


def test_many_at_once_get_the_same_answer(predictors: Predictors, make_model: Callable[..., str]) -> None:
    make_model(alias="default")
    answers = ask(predictors, count=40)
    assert len({str({**answer, "timings_ms": None}) for answer in answers}) == 1
    assert predictors.loaded == 1


def test_a_model_is_loaded_once_however_many_ask(
    predictors: Predictors, make_model: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(alias="default")
    loads: list[Path] = []
    original = Engine.load

    def counted(folder: Path, *, threads: int = 1) -> Engine:
        loads.append(folder)
        time.sleep(0.05)
        return original(folder, threads=threads)

    monkeypatch.setattr(module.Engine, "load", counted)
    ask(predictors, count=8)
    assert len(loads) == 1


def test_a_load_that_fails_can_be_tried_again(predictors: Predictors, make_model: Callable[..., str], settings: Settings) -> None:
    model_id = make_model(alias="default")
    graph = settings.data_dir / "blobs" / "artifacts" / model_id / "model.onnx"
    content = graph.read_bytes()
    graph.write_bytes(b"broken")
    with pytest.raises(DependencyError):
        ask(predictors)
    graph.write_bytes(content)
    assert ask(predictors)[0]["model"] == model_id


def test_more_than_can_be_done_in_time_are_refused_early(predictors: Predictors, make_model: Callable[..., str]) -> None:
    make_model(alias="default")
    ask(predictors)
    predictors._queue.owed = 4.1 * predictors._queue.threads  # seconds of work that others have brought

    async def run() -> list[Any]:
        return await asyncio.gather(*(predictors.predict(None, SOUND, Options()) for _ in range(4)), return_exceptions=True)

    answers = asyncio.run(run())
    assert all(isinstance(answer, OverloadedError) and answer.retry_after == 5 for answer in answers)
    predictors._queue.owed = 0.0
    assert ask(predictors)


def test_one_that_waited_too_long_is_not_begun(change_setting: Callable[..., Settings], make_model: Callable[..., str]) -> None:
    make_model(alias="default")
    predictors = Predictors(change_setting(predict_wait_seconds=0.05), Metrics())

    async def run() -> None:
        await predictors.predict(None, SOUND, Options())
        with predictors._queue._condition:  # no thread can take anything meanwhile
            late = asyncio.create_task(predictors.predict(None, SOUND, Options()))
            await asyncio.sleep(0)
            time.sleep(0.1)  # noqa: ASYNC251 - the lock is held
        with pytest.raises(OverloadedError, match="could not begin in time"):
            await late

    asyncio.run(run())


def test_sounds_in_memory_are_bounded_together(predictors: Predictors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100)

    async def run() -> None:
        def body(size: int) -> FileBody:
            request = request_of([b"x" * (size // 2)] * 2, {"Content-Type": "audio/wav"})
            return FileBody(request, fields=frozenset(), takes=lambda _: True, expected="")

        async with predictors.collect(body(60)) as data:
            assert len(data) == 60
            with pytest.raises(OverloadedError):
                async with predictors.collect(body(60)):
                    pass
        async with predictors.collect(body(100)) as data:
            assert len(data) == 100
        assert predictors._waiting_bytes == 0

    asyncio.run(run())


def test_names_are_looked_up_again_when_told(predictors: Predictors, make_model: Callable[..., str]) -> None:
    from worker import aliases

    first, second = make_model(alias="default"), make_model()
    assert ask(predictors)[0]["model"] == first
    aliases.set_alias("default", second)
    predictors.forget()
    assert ask(predictors)[0]["model"] == second


def test_an_alias_that_another_process_moved_is_seen_soon(
    predictors: Predictors, make_model: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker import aliases

    monkeypatch.setattr(engines, "RESOLVED_SECONDS", 0.0)
    make_model(alias="default")
    ask(predictors)
    second = make_model()
    aliases.set_alias("default", second)
    assert ask(predictors)[0]["model"] == second


def test_long_and_broken_sounds_among_short_ones(predictors: Predictors, make_model: Callable[..., str]) -> None:
    make_model(alias="default")
    sounds = [SOUND, wav_bytes(tone(440, 3.0)), SOUND[:1000], SOUND, b"hello", wav_bytes(tone(440, 0.1))]

    async def run() -> list[Any]:
        return await asyncio.gather(*(predictors.predict(None, sound, Options()) for sound in sounds), return_exceptions=True)

    short, long, cut, same, text, brief = asyncio.run(run())
    assert (cut.code, text.code) == ("audio_truncated", "media_type_unsupported")
    assert [answer["duration_seconds"] for answer in (short, long, same, brief)] == [0.5, 3.0, 0.5, 0.1]
    assert "segments" in long
    assert short["top_k"] == same["top_k"]


def test_the_first_of_equals_is_the_answer_everywhere() -> None:
    labels = ("a", "b", "c")
    equal = np.array([0.25, 0.375, 0.375])
    assert judged(labels, equal, np.zeros(3)) == {"label": "b", "probability": 0.375, "rejected": False}
    assert [row["label"] for row in ranked(labels, equal, 3)] == ["b", "c", "a"]


def test_an_answer_below_its_own_labels_threshold_is_rejected() -> None:
    probabilities = np.array([0.2, 0.5, 0.3], np.float32)
    for thresholds, label in (([0.0, 0.5, 0.9], "b"), ([0.0, 0.51, 0.0], None), ([0.9, 0.4, 0.9], "b")):
        found = judged(("a", "b", "c"), probabilities, np.array(thresholds, np.float32))
        assert found == {"label": label, "probability": 0.5, "rejected": label is None}


def test_a_model_with_thresholds_rejects_sounds_and_their_segments(
    predictors: Predictors, make_model: Callable[..., str], settings: Settings
) -> None:
    model_id = make_model(alias="default")
    path = settings.data_dir / "blobs" / "artifacts" / model_id / "model.json"
    manifest = ModelManifest.model_validate_json(path.read_bytes())
    plain = ask(predictors, segments=True)[0]
    assert (plain["rejected"], plain["segments"][0]["rejected"]) == (False, False)
    strict = manifest.model_copy(update={"thresholds": {plain["label"]: 1.0}})
    path.write_text(strict.model_dump_json())
    found = ask(Predictors(settings, Metrics()), segments=True)[0]
    assert (found["label"], found["rejected"]) == (None, True)
    assert found["top_k"] == plain["top_k"], "what was likeliest is told all the same"
    assert found["top_k"][0] == {"label": plain["label"], "probability": found["probability"]}
    assert (found["segments"][0]["label"], found["segments"][0]["rejected"]) == (None, True)
