import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from app.inference import MAX_ITEMS
from app.main import create_app
from app.schemas.inference import InferenceResponse, ServedModel
from models.audio import decode_audio, fit_clip
from models.config import ModelManifest
from models.engine import Engine
from tests.app.conftest import LABELS, check_problem
from tests.conftest import tone, wav_bytes
from worker.settings import Settings

CLIP = 8000
LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/digits/infer"
SOUNDS = [wav_bytes(tone(440, 0.5, seed=1)), wav_bytes(tone(1200, 0.8, seed=2))]
CLIPS = np.stack([fit_clip(decode_audio(sound).waveform, CLIP) for sound in SOUNDS])


@pytest.fixture
def model(make_model: Callable[..., str]) -> str:
    return make_model(alias="digits")


@pytest.fixture
def engine(settings: Settings, model: str) -> Engine:
    return Engine.load(settings.data_dir / "blobs" / "artifacts" / model)


def waveform(data: Any = None, shape: tuple[int, ...] = (2, CLIP), **members: Any) -> dict[str, Any]:
    return {"name": "waveform", "datatype": "FP32", "shape": list(shape), "data": CLIPS.tolist() if data is None else data} | members


def audio(*sounds: bytes, **members: Any) -> dict[str, Any]:
    data = [base64.b64encode(sound).decode() for sound in sounds]
    return {"name": "audio", "datatype": "BYTES", "shape": [len(sounds)], "data": data} | members


def infer(client: TestClient, *inputs: dict[str, Any], path: str = "digits", **members: Any) -> httpx2.Response:
    return client.post(f"/v2/models/{path}/infer", json={"inputs": list(inputs), **members})


def outputs(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    InferenceResponse.model_validate(response.json())
    return {output["name"]: output for output in response.json()["outputs"]}


def floats(output: dict[str, Any]) -> NDArray[np.float32]:
    return np.array(output["data"], np.float32).reshape(output["shape"])


def with_bytes(client: TestClient, header: dict[str, Any], raw: bytes, **headers: str) -> httpx2.Response:
    head = json.dumps(header).encode()
    return client.post(INFER, content=head + raw, headers={LENGTH: str(len(head))} | headers)


def test_server_and_health(client: TestClient) -> None:
    server = client.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("synesthesia", ["binary_tensor_data"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_health_asks_for_no_key_and_the_rest_does(change_setting: Callable[..., Settings]) -> None:
    with TestClient(create_app(change_setting(api_key="secret"))) as client:
        assert [client.get(f"/v2/health/{what}").status_code for what in ("live", "ready")] == [200, 200]
        check_problem(client.get("/v2"), 401, "unauthorized")
        check_problem(client.post(INFER, json={}), 401, "unauthorized")


def test_health_is_not_ready_without_a_database(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(**_: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr("app.readiness.jobs.list_jobs", down)
    check_problem(client.get("/v2/health/ready"), 503, "not_ready")
    assert client.get("/v2/health/live").status_code == 200


def test_a_model_is_described_by_id_alias_and_version(client: TestClient, model: str, engine: Engine) -> None:
    answers = [client.get(f"/v2/models/{path}").json() for path in ("digits", "digits/versions/1", f"digits/versions/{model}")]
    assert answers[0] == answers[1] == answers[2]
    found = ServedModel.model_validate(answers[0])
    assert (found.name, found.versions, found.platform) == ("digits", [model], "onnxruntime_onnx")
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in found.inputs] == [("waveform", "FP32", [-1, CLIP])]
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in found.outputs] == [
        ("probabilities", "FP32", [-1, 3]), ("label", "BYTES", [-1]), ("embedding", "FP32", [-1, engine.embedding_size]),
    ]  # fmt: skip
    assert (found.parameters.labels, found.parameters.sample_rate) == (list(LABELS), 16000)
    assert client.get(f"/v2/models/{model}").json() == answers[0] | {"name": model}
    for path in ("digits", "digits/versions/1", f"{model}/versions/{model}"):
        assert client.get(f"/v2/models/{path}/ready").json() == {"name": path.partition("/")[0], "ready": True}


def test_a_version_is_the_model_that_the_alias_stands_for(client: TestClient, model: str, make_model: Callable[..., str]) -> None:
    other = make_model()
    assert client.get(f"/v2/models/digits/versions/{model}/ready").status_code == 200
    check_problem(client.get(f"/v2/models/digits/versions/{other}/ready"), 404, "model_version_not_found")
    client.put("/aliases/digits", json={"model": other})
    check_problem(client.get(f"/v2/models/digits/versions/{model}"), 404, "model_version_not_found")
    problem = check_problem(infer(client, waveform(), path=f"digits/versions/{model}"), 404, "model_version_not_found")
    assert other in problem["error"]
    assert infer(client, waveform(), path="digits/versions/1").json()["model_version"] == other


def test_clips_are_answered_as_the_engine_answers_them(client: TestClient, model: str, engine: Engine) -> None:
    response = infer(client, waveform(), id="abc")
    body = response.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("digits", model, "abc")
    found = outputs(response)
    assert list(found) == ["probabilities", "label"]
    assert np.array_equal(floats(found["probabilities"]), engine.probabilities(CLIPS))
    assert found["label"]["data"] == [LABELS[index] for index in engine.probabilities(CLIPS).argmax(axis=1)]
    assert (found["label"]["datatype"], found["label"]["shape"]) == ("BYTES", [2])
    assert "id" not in infer(client, waveform()).json()


def test_flat_data_sound_files_and_single_predictions_agree(client: TestClient, model: str) -> None:
    nested = outputs(infer(client, waveform()))
    assert outputs(infer(client, waveform(CLIPS.reshape(-1).tolist()))) == nested
    assert outputs(infer(client, audio(*SOUNDS))) == nested
    for row, sound in enumerate(SOUNDS):
        alone = client.post("/predict?model=digits", content=sound, headers={"Content-Type": "audio/wav"}).json()
        scores = {score["label"]: score["probability"] for score in alone["top_k"]}
        np.testing.assert_allclose(floats(nested["probabilities"])[row], [scores[label] for label in LABELS], atol=1e-5)


def test_outputs_are_those_that_are_asked_for(client: TestClient, model: str, engine: Engine) -> None:
    found = outputs(infer(client, waveform(), outputs=[{"name": "embedding"}, {"name": "label"}]))
    assert list(found) == ["embedding", "label"]
    assert np.array_equal(floats(found["embedding"]), engine.embeddings(CLIPS))


def test_a_label_that_is_rejected_is_empty(client: TestClient, model: str, settings: Settings) -> None:
    path = settings.data_dir / "blobs" / "artifacts" / model / "model.json"
    manifest = ModelManifest.model_validate_json(path.read_bytes())
    path.write_text(manifest.model_copy(update={"thresholds": dict.fromkeys(LABELS, 1.0)}).model_dump_json())
    assert outputs(infer(client, waveform()))["label"]["data"] == ["", ""]


def test_tensors_as_bytes_both_ways(client: TestClient, model: str, engine: Engine) -> None:
    raw = CLIPS.astype("<f4").tobytes()
    tensor = {"name": "waveform", "datatype": "FP32", "shape": [2, CLIP], "parameters": {"binary_data_size": len(raw)}}
    header = {
        "inputs": [tensor],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label", "parameters": {"binary_data": True}}],
    }
    response = with_bytes(client, header, raw)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[LENGTH])
    described, rest = json.loads(response.content[:length]), response.content[length:]
    InferenceResponse.model_validate(described)
    sizes = [output["parameters"]["binary_data_size"] for output in described["outputs"]]
    assert sum(sizes) == len(rest)
    assert np.array_equal(np.frombuffer(rest[: sizes[0]], "<f4").reshape(2, 3), engine.probabilities(CLIPS))
    first = LABELS[int(engine.probabilities(CLIPS)[0].argmax())].encode()
    assert rest[sizes[0] :].startswith(struct.pack("<I", len(first)) + first)
    whole = with_bytes(
        client, {"inputs": [tensor], "parameters": {"binary_data_output": True}}, raw, **{"Content-Type": "application/octet-stream"}
    )
    assert whole.content[int(whole.headers[LENGTH]) :] == rest
    plain = with_bytes(client, {"inputs": [tensor]}, raw)
    assert np.array_equal(floats(outputs(plain)["probabilities"]), engine.probabilities(CLIPS))


def test_sound_files_as_bytes(client: TestClient, model: str) -> None:
    raw = b"".join(struct.pack("<I", len(sound)) + sound for sound in SOUNDS)
    tensor = {"name": "audio", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(raw)}}
    assert outputs(with_bytes(client, {"inputs": [tensor]}, raw)) == outputs(infer(client, waveform()))
    for broken in (raw[:-1], raw + b"abc", raw + struct.pack("<I", 2**31)):
        told = tensor | {"parameters": {"binary_data_size": len(broken)}}
        check_problem(with_bytes(client, {"inputs": [told]}, broken), 422, "tensor_invalid")


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [waveform(), audio(SOUNDS[0])],
        [waveform(name="picture")],
        [waveform(datatype="FP64")],
        [waveform(shape=(2, CLIP + 1))],
        [waveform(shape=(1, CLIP))],
        [waveform(shape=(3, CLIP))],
        [waveform(shape=(-2, CLIP))],
        [waveform(shape=(0, CLIP), data=[])],
        [waveform(shape=(2, CLIP, 1))],
        [waveform(shape=(MAX_ITEMS + 1, CLIP))],
        [waveform(data=[[0.0] * CLIP, [0.0]])],
        [waveform(data=["loud"] * 2 * CLIP)],
        [waveform(data=[None] * 2 * CLIP)],
        [waveform(data=[{"a": 1}] * 2 * CLIP)],
        [waveform(data=[1e30] * 2 * CLIP)],
        [waveform(data=[1e300] * 2 * CLIP)],
        [waveform(parameters={"binary_data_size": 4})],
        [{"name": "waveform", "datatype": "FP32", "shape": [2, CLIP]}],
        [audio(SOUNDS[0], shape=[2])],
        [audio(SOUNDS[0], datatype="FP32")],
        [audio(data=["no base64!"], shape=[1])],
        [audio(data=[7], shape=[1])],
    ],
    ids=lambda inputs: str([{**tensor, "data": "…"} for tensor in inputs])[:90],
)
@pytest.mark.filterwarnings("error")
def test_tensors_that_do_not_fit_are_refused(client: TestClient, model: str, inputs: list[dict[str, Any]]) -> None:
    problem = check_problem(infer(client, *inputs), 422, "tensor_invalid")
    assert problem["errors"][0]["pointer"].startswith("/inputs")


def test_what_is_no_inference_request(client: TestClient, model: str, make_model: Callable[..., str]) -> None:
    seen = make_model(modality="image")
    check_problem(infer(client, waveform(), outputs=[{"name": "logits"}]), 422, "tensor_invalid")
    check_problem(infer(client, waveform(), frobnicate=1), 422, "validation_error")
    check_problem(infer(client, waveform(), path="nobody"), 404, "model_not_found")
    check_problem(infer(client, audio(b""), path="..%2fx"), 404, "route_not_found")
    check_problem(infer(client, waveform(), path=seen), 422, "modality_mismatch")
    check_problem(infer(client, waveform(), path="digits/versions/2"), 404, "model_version_not_found")
    check_problem(client.post(f"{INFER}?verbose=1", json={}), 422, "validation_error")
    check_problem(client.post(INFER, content=b"{"), 400, "malformed_json")
    check_problem(client.post(INFER, content=b"x", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    check_problem(client.post(INFER, files={"file": b"x"}), 415, "unsupported_media_type")
    check_problem(client.get("/v2/nothing"), 404, "route_not_found")
    check_problem(with_bytes(client, {"inputs": [waveform()]}, b"", **{LENGTH: "1000000"}), 400, "header_invalid")
    check_problem(with_bytes(client, {"inputs": [waveform()]}, b"rest"), 422, "tensor_invalid")
    sound = check_problem(infer(client, audio(SOUNDS[0], SOUNDS[1][:500])), 422, "audio_truncated")
    assert sound["errors"][0]["pointer"] == "/inputs/0/data/1"


def test_a_body_beyond_the_limit_is_refused(change_setting: Callable[..., Settings], model: str) -> None:
    with TestClient(create_app(change_setting(max_inference_bytes=100_000))) as client:
        check_problem(infer(client, waveform()), 413, "body_too_large")


def test_elsewhere_problems_have_no_member_of_this_protocol(client: TestClient) -> None:
    assert "error" not in client.get("/models/nobody").json()
