import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.schemas.predict import Prediction
from tests.app.conftest import LABELS, check_problem, write_speech_artifact
from tests.conftest import tone, wav_bytes
from worker.errors import DependencyError
from worker.settings import Settings
from worker.storage import get_storage

WAV = {"Content-Type": "audio/wav"}
SOUND = wav_bytes(tone(440, 0.5))


@pytest.fixture
def model(make_model: Callable[..., str]) -> str:
    return make_model(alias="default")


def test_a_sound_is_heard(client: TestClient, model: str) -> None:
    response = client.post("/predict", content=SOUND, headers=WAV)
    assert response.status_code == 200
    found = Prediction.model_validate(response.json())
    assert (found.model, found.rejected, found.duration_seconds, found.segments) == (model, False, 0.5, None)
    assert found.top_k[0].label == found.label
    assert {score.label for score in found.top_k} == set(LABELS)
    assert sum(score.probability for score in found.top_k) == pytest.approx(1, abs=1e-5)
    assert found.timings_ms.total >= found.timings_ms.decode > 0


def test_body_form_name_and_alias_give_the_same_answer(client: TestClient, model: str) -> None:
    answers = [
        client.post("/predict", content=SOUND, headers=WAV).json(),
        client.post("/predict", content=SOUND, headers={"Content-Type": "application/octet-stream"}).json(),
        client.post("/predict", files={"file": ("a.mp3", SOUND, "audio/mpeg")}).json(),
        client.post(f"/predict?model={model}", content=SOUND, headers=WAV).json(),
        client.post("/predict?model=default", content=SOUND, headers=WAV).json(),
    ]
    assert len({str({**answer, "timings_ms": None}) for answer in answers}) == 1


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (1000, 3)])
def test_top_k(client: TestClient, model: str, top_k: int, count: int) -> None:
    assert len(client.post(f"/predict?top_k={top_k}", content=SOUND, headers=WAV).json()["top_k"]) == count


def test_long_sounds_are_told_in_segments(client: TestClient, model: str) -> None:
    found = Prediction.model_validate(client.post("/predict", content=wav_bytes(tone(440, 1.3)), headers=WAV).json())
    assert found.segments is not None
    assert (found.segments[0].start, found.segments[-1].end) == (0.0, pytest.approx(1.3))
    short = Prediction.model_validate(client.post("/predict?segments=true", content=SOUND, headers=WAV).json())
    assert len(short.segments or []) == 1


def test_silence_is_answered_with_a_warning(client: TestClient, model: str) -> None:
    found = client.post("/predict", content=wav_bytes(np.zeros(8000)), headers=WAV)
    assert (found.status_code, found.json()["warnings"]) == (200, ["silence"])


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 192000])
def test_rates_and_channels(client: TestClient, model: str, rate: int) -> None:
    stereo = np.stack([tone(440, 0.5, rate=rate)] * 2, axis=1)
    assert client.post("/predict", content=wav_bytes(stereo, rate), headers=WAV).status_code == 200


def test_what_is_no_sound(client: TestClient, model: str, make_model: Callable[..., str]) -> None:
    seen = make_model(modality="image")
    cases = [
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, WAV, "", 415, "media_type_unsupported"),
        (b"hello", WAV, "", 415, "media_type_unsupported"),
        (b"", WAV, "", 422, "audio_empty"),
        (SOUND[:1000], WAV, "", 422, "audio_truncated"),
        (wav_bytes(tone(440, 0.005)), WAV, "", 422, "audio_too_short"),
        (wav_bytes(np.zeros(61 * 8000), 8000), WAV, "", 422, "audio_too_long"),
        (wav_bytes(np.zeros((800, 9))), WAV, "", 422, "audio_channels"),
        (wav_bytes(np.zeros(800), 4000), WAV, "", 422, "audio_rate"),
        (SOUND, {"Content-Type": "image/png"}, "", 415, "unsupported_media_type"),
        (SOUND, {"Content-Type": "application/json"}, "", 415, "unsupported_media_type"),
        (SOUND, WAV, "?top_k=0", 422, "validation_error"),
        (SOUND, WAV, "?top_k=x", 422, "validation_error"),
        (SOUND, WAV, "?segments=perhaps", 422, "validation_error"),
        (SOUND, WAV, "?model=nobody", 404, "model_not_found"),
        (SOUND, WAV, "?model=../x", 404, "model_not_found"),
        (SOUND, WAV, "?model=", 404, "model_not_found"),
        (SOUND, WAV, f"?model={seen}", 422, "modality_mismatch"),
    ]
    for content, headers, query, status, code in cases:
        check_problem(client.post(f"/predict{query}", content=content, headers=headers), status, code)
    check_problem(client.post("/predict", files={"sound": ("a.wav", SOUND)}), 422, "validation_error")
    text = client.get("/metrics").text
    assert 'synesthesia_predictions_total{outcome="audio_truncated"} 1.0' in text


def test_before_the_first_model_there_is_a_clear_answer(client: TestClient) -> None:
    body = check_problem(client.post("/predict", content=SOUND, headers=WAV), 404, "no_default_model")
    assert "fine-tune" in body["hint"]


def test_a_large_sound_is_refused(change_setting: Callable[..., Settings], make_model: Callable[..., str]) -> None:
    from app.main import create_app

    with TestClient(create_app(change_setting(max_sound_bytes=1000))) as client:
        check_problem(client.post("/predict", content=b"x" * 70_000, headers=WAV), 413, "body_too_large")


def test_a_moved_alias_is_seen_at_once(client: TestClient, model: str, make_model: Callable[..., str]) -> None:
    other = make_model()
    for model_id in (model, other, model):
        client.put("/aliases/default", json={"model": model_id})
        assert client.post("/predict", content=SOUND, headers=WAV).json()["model"] == model_id


def test_a_deleted_model_answers_no_more(client: TestClient, make_model: Callable[..., str]) -> None:
    model_id = make_model()
    assert client.post(f"/predict?model={model_id}", content=SOUND, headers=WAV).status_code == 200
    client.delete(f"/models/{model_id}")
    check_problem(client.post(f"/predict?model={model_id}", content=SOUND, headers=WAV), 410, "model_deleted")


@pytest.mark.parametrize("fault", ["graph gone", "graph changed", "weights changed", "description broken", "all gone"])
def test_damaged_files_are_a_503_and_never_another_answer(client: TestClient, model: str, settings: Settings, fault: str) -> None:
    (folder,) = (settings.data_dir / "blobs" / "artifacts").iterdir()
    match fault:
        case "graph gone":
            (folder / "model.onnx").unlink()
        case "graph changed":
            (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"x")
        case "weights changed":
            (folder / "model.safetensors").write_bytes(b"x")
        case "description broken":
            (folder / "model.json").write_text("{")
        case _:
            shutil.rmtree(folder)
    problem = check_problem(client.post("/predict", content=SOUND, headers=WAV), 503, "model_unavailable")
    assert folder.name in problem["detail"]
    assert "PUT /aliases" in problem["hint"]


def test_files_of_another_model_are_no_answer_of_this_one(client: TestClient, model: str, settings: Settings, tmp_path: Path) -> None:
    """Sound in themselves: whoever exchanges them all, by intent or by mistake, is told by what the database knows of them."""
    (folder,) = (settings.data_dir / "blobs" / "artifacts").iterdir()
    shutil.rmtree(folder)
    (tmp_path / "other").mkdir()
    shutil.copytree(write_speech_artifact(tmp_path / "other", seed=3), folder)
    check_problem(client.post("/predict", content=SOUND, headers=WAV), 503, "model_unavailable")
    check_problem(client.get(f"/models/{model}/artifact"), 503, "blob_damaged")


def test_a_nearly_full_disk_keeps_nobody_from_being_heard(change_setting: Callable[..., Settings], model: str) -> None:
    from app.main import create_app

    with TestClient(create_app(change_setting(min_free_fraction=1.0))) as client:
        assert client.post("/predict", content=SOUND, headers=WAV).status_code == 200
        check_problem(client.post("/models", content=b"x"), 507, "insufficient_storage")
        told = client.get("/readyz")
        assert (told.status_code, told.json()["checks"]["disk"]["status"]) == (200, "degraded")
        assert told.json()["checks"]["disk"]["detail"].endswith("no new uploads and jobs")
        assert client.delete("/aliases/default").is_success
        assert client.delete(f"/models/{model}").is_success, "what makes room is allowed"


def test_a_storage_that_does_not_answer_is_not_the_models_fault(client: TestClient, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: str) -> Path:
        raise DependencyError("the storage does not answer")

    monkeypatch.setattr(get_storage(), "fetch_directory", down)
    check_problem(client.post("/predict", content=SOUND, headers=WAV), 503, "dependency_unavailable")
