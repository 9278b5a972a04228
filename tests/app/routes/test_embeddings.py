import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from starlette.testclient import TestClient

from app.lanes import Lanes
from app.main import create_app
from app.schemas.predict import Embedding
from models.audio import decode_audio, fit_clip
from models.engine import Engine
from models.manifest import GRAPH, MANIFEST, read_manifest, sha256_of
from tests.app.conftest import check_problem
from tests.conftest import tone, wav_bytes
from worker.settings import Settings

WAV = {"Content-Type": "audio/wav"}
SOUND = wav_bytes(tone(440, 0.5, seed=1))


@pytest.fixture
def model(make_model: Callable[..., str]) -> str:
    return make_model(alias="default")


def folder_of(settings: Settings, model: str) -> Path:
    return settings.data_dir / "blobs" / "artifacts" / model


@pytest.mark.parametrize("seconds", [0.3, 0.5, 1.7])
def test_it_is_the_vector_that_the_prediction_is_made_from(client: TestClient, model: str, settings: Settings, seconds: float) -> None:
    sound = wav_bytes(tone(440, seconds, seed=1))
    response = client.post("/embeddings", content=sound, headers=WAV)
    assert response.status_code == 200
    found = Embedding.model_validate(response.json())
    engine = Engine.load(folder_of(settings, model))
    clip = fit_clip(decode_audio(sound).waveform, 8000)
    assert (found.model, found.dimensions, len(found.embedding)) == (model, engine.embedding_size, engine.embedding_size)
    np.testing.assert_array_equal(np.array(found.embedding, np.float32), engine.embeddings(clip[None])[0])
    assert found.duration_seconds == seconds
    assert found.timings_ms.total >= found.timings_ms.model > 0


def test_the_head_on_it_gives_the_prediction(client: TestClient, model: str, settings: Settings) -> None:
    from models.artifact import load_artifact

    network, _ = load_artifact(folder_of(settings, model))
    vector = np.array(client.post("/embeddings", content=SOUND, headers=WAV).json()["embedding"])
    weight, bias = network.head.weight.detach().numpy(), network.head.bias.detach().numpy()  # type: ignore[union-attr]  # a linear head
    logits = weight @ vector + bias
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    scores = {score["label"]: score["probability"] for score in client.post("/predict", content=SOUND, headers=WAV).json()["top_k"]}
    np.testing.assert_allclose([scores[label] for label in network.config.labels], expected, atol=1e-5)


def test_body_form_and_name_give_the_same_vector_and_another_sound_another(client: TestClient, model: str) -> None:
    answers = [
        client.post("/embeddings", content=SOUND, headers=WAV).json(),
        client.post("/embeddings", files={"file": ("a.wav", SOUND)}).json(),
        client.post(f"/embeddings?model={model}", content=SOUND, headers=WAV).json(),
        client.post("/embeddings?model=default", content=SOUND, headers={"Content-Type": "application/octet-stream"}).json(),
    ]
    assert len({str({**answer, "timings_ms": None}) for answer in answers}) == 1
    other = client.post("/embeddings", content=wav_bytes(tone(1500, 0.5)), headers=WAV).json()
    assert np.abs(np.subtract(other["embedding"], answers[0]["embedding"])).max() > 0.01


def test_what_gives_no_embedding(client: TestClient, model: str, make_model: Callable[..., str]) -> None:
    seen = make_model(modality="image")
    for content, query, status, code in [
        (b"hello", "", 415, "media_type_unsupported"),
        (SOUND[:1000], "", 422, "audio_truncated"),
        (SOUND, "?model=nobody", 404, "model_not_found"),
        (SOUND, f"?model={seen}", 422, "modality_mismatch"),
        (SOUND, "?top_k=3", 422, "validation_error"),
    ]:
        check_problem(client.post(f"/embeddings{query}", content=content, headers=WAV), status, code)
    check_problem(client.post("/embeddings", content=SOUND, headers={"Content-Type": "image/png"}), 415, "unsupported_media_type")


def test_a_model_of_an_older_version_says_so(
    client: TestClient, make_model: Callable[..., str], speech_artifact: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(speech_artifact, tmp_path / "older"))
    graph = onnx.load(folder / GRAPH)
    del graph.graph.output[1]
    onnx.save(graph, folder / GRAPH)
    manifest = read_manifest(folder)
    files = manifest.files | {GRAPH: sha256_of(folder / GRAPH)}
    (folder / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    make_model(alias="default", artifact=folder)
    problem = check_problem(client.post("/embeddings", content=SOUND, headers=WAV), 422, "embedding_unavailable")
    assert "again" in problem["hint"]
    assert client.post("/predict", content=SOUND, headers=WAV).status_code == 200


def test_what_can_not_begin_in_time_is_refused(settings: Settings, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lanes.MAX_WAIT_SECONDS", 0.05)
    app = create_app(settings)
    lanes: Lanes = app.app.state.lanes  # type: ignore[attr-defined]  # the gate wraps the application
    with TestClient(app) as client:
        for _ in range(lanes.count):
            client.portal.call(lanes.take)  # type: ignore[union-attr]  # there is one while the client is open
        check_problem(client.post("/embeddings", content=SOUND, headers=WAV), 503, "overloaded")
        lanes.give_back()
        assert client.post("/embeddings", content=SOUND, headers=WAV).status_code == 200
