"""The whole method over HTTP: pictures → network → its layers carried over to sounds → a model that answers."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnxruntime
import pytest

from app.client import Client, Json, RefusedError
from tests.conftest import tone, wav_bytes
from tests.service import Service, finished, run_job, small

pytestmark = pytest.mark.xdist_group("service")


def ask(service: Service, data: bytes, **params: Any) -> Json:
    response = httpx2.post(f"{service.url}/predict", params=params, content=data, headers={"Content-Type": "audio/wav"})
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def weights_of(client: Client, model: str, folder: Path) -> bytes:
    path = folder / f"{model}.tar"
    client.download(f"/models/{model}/artifact", path)
    with tarfile.open(path) as archive:
        member = archive.extractfile("model.safetensors")
        assert member is not None
        return member.read()


def test_a_dataset_is_described(client: Client, pictures: Json, sounds: Json) -> None:
    assert (pictures["modality"], sounds["modality"]) == ("image", "audio")
    assert pictures["items"] == 60
    assert pictures["labels"] == ["stripe0", "stripe1", "stripe2"]
    assert sounds["groups"] == 4
    assert sum(sounds["splits"].values()) == sounds["items"] == 36
    assert all(count > 0 for count in sounds["splits"].values())
    speakers: dict[str, set[str]] = {}
    for item in client.pages(f"/datasets/{sounds['id']}/items"):
        speakers.setdefault(item["split"], set()).add(item["group"])
    assert not speakers["train"] & speakers["test"]
    assert not speakers["train"] & speakers["validation"]


def test_pretraining_learns_and_says_what_it_did(client: Client, source: Json) -> None:
    assert source["type"] == "pretrain"
    assert source["attempt"] == 1
    assert source["metrics"]["test_accuracy"] > 0.9
    assert source["hyperparameters"]["learning_rate"] != "auto"
    events = list(client.events(str(source["id"])))
    states = [event["data"]["status"] for event in events if event["type"] == "status"]
    assert states == ["queued", "running", "succeeded"]
    epochs = [event["data"] for event in events if event["type"] == "metrics"]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
    wanted = {"epoch", "step", "train_loss", "validation_loss", "validation_accuracy", "learning_rate", "samples_per_second"}
    assert wanted <= set(epochs[-1])


def test_a_full_transfer_carries_every_layer_and_its_lineage(client: Client, source: Json, transferred: Json) -> None:
    model = client.get(f"/models/{transferred['model']}")
    assert model["transfer"]["mode"] == "full"
    assert model["transfer"]["shared_layers"] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert [step["modality"] for step in model["lineage"]] == ["image", "audio"]
    assert model["lineage"][0]["model"] == source["model"]
    assert model["lineage"][0]["dataset"] == source["dataset"]
    assert "tones" in model["aliases"]
    aliases = {alias["name"]: alias["model"] for alias in client.get("/aliases")["data"]}
    assert client.get(f"/models/{aliases['default']}")["modality"] == "audio"  # the first fine-tune's, whichever journey ran it


def test_partial_frozen_and_none_do_what_they_say(client: Client, sounds: Json, source: Json, folder: Path) -> None:
    partial = run_job(
        client, small(sounds, base_model=source["model"], transfer={"mode": "partial", "until": "layer2", "freeze": "shared"})
    )
    model = client.get(f"/models/{partial['model']}")
    assert model["transfer"]["shared_layers"] == ["stem", "layer1", "layer2"] == model["transfer"]["frozen_layers"]
    none = run_job(client, small(sounds, base_model=source["model"], transfer={"mode": "none"}))
    assert client.get(f"/models/{none['model']}")["transfer"]["shared_layers"] == []
    from safetensors.numpy import load

    before = load(weights_of(client, str(source["model"]), folder))
    after = load(weights_of(client, str(partial["model"]), folder))
    kept = "backbone.layer2.conv2.weight"
    moved = "backbone.layer4.conv2.weight"
    assert np.array_equal(before[kept], after[kept])
    assert not np.array_equal(before[moved], after[moved])


def test_choices_change_the_weights_and_a_seed_repeats_them(client: Client, sounds: Json, source: Json, folder: Path) -> None:
    base = {"hyperparameters": {"epochs": 1}, "base_model": source["model"], "transfer": {"mode": "none"}}
    variants: dict[str, Json] = {
        "first": base,
        "again": base,
        "optimizer": {**base, "hyperparameters": {"epochs": 1, "optimizer": "sgd"}},
        "augmentation": {**base, "augmentation": {"noise": False}},
        "mode": {**base, "transfer": {"mode": "full"}},
        "freeze": {**base, "transfer": {"mode": "full", "freeze": "shared"}},
    }
    jobs = {name: client.post("/jobs", small(sounds, **fields))["id"] for name, fields in variants.items()}
    found = {name: weights_of(client, str(finished(client, str(job))["model"]), folder) for name, job in jobs.items()}
    assert found["first"] == found.pop("again")
    assert len(set(found.values())) == len(found) == 5


def test_seed_cnn_stands_on_its_image_classifier(client: Client, pictures: Json, sounds: Json) -> None:
    quick = {"hyperparameters": {"epochs": 1}}
    source = run_job(client, small(pictures, base_model="seed_cnn", **quick))
    heard = run_job(client, small(sounds, base_model=source["model"], transfer={"mode": "full"}, **quick))
    model = client.get(f"/models/{heard['model']}")
    assert model["transfer"]["shared_layers"] == ["conv1", "conv2", "fc", "classifier"]


def test_trainer_graph_and_service_agree(service: Service, client: Client, transferred: Json, folder: Path) -> None:
    """The same clip: label and, within 1e-3, probability from /predict and from model.onnx run by hand."""
    path = folder / "tones.onnx"
    client.download(f"/models/{transferred['model']}/onnx", path)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    labels = client.get(f"/models/{transferred['model']}")["labels"]
    for hertz in (300, 600, 900):
        samples = np.rint(tone(hertz, 0.5) * 32768).astype(np.int16)
        answer = ask(service, wav_bytes(samples), model="tones", top_k=3)
        by_hand = session.run(None, {session.get_inputs()[0].name: samples[None].astype(np.float32) / 32768})[0][0]
        assert answer["label"] == labels[int(by_hand.argmax())]
        served = {entry["label"]: entry["probability"] for entry in answer["top_k"]}
        assert served == pytest.approx(dict(zip(labels, by_hand.tolist(), strict=True)), abs=1e-3)


def test_what_was_measured_is_what_is_served(service: Service, client: Client, sounds: Json, transferred: Json) -> None:
    """The evaluation's confusion matrix comes out again when every test clip is sent to /predict."""
    import zipfile

    from tests.conftest import sound_archive

    archive = zipfile.ZipFile(io.BytesIO(sound_archive()))
    evaluation = client.get(f"/models/{transferred['model']}/evaluation")["splits"]["test"]
    right = 0
    items = list(client.pages(f"/datasets/{sounds['id']}/items", split="test"))
    for item in items:
        answer = ask(service, archive.read(item["file_name"]), model=transferred["model"])
        right += answer["label"] == item["label"]
    assert right / len(items) == pytest.approx(evaluation["accuracy"], abs=1e-9)
    assert sum(map(sum, evaluation["confusion_matrix"]["counts"])) == len(items) == evaluation["n"]
    low, high = evaluation["interval_95"]
    assert low <= evaluation["accuracy"] <= high


def test_the_answer_has_every_field(service: Service, transferred: Json) -> None:
    answer = ask(service, wav_bytes(tone(600, 0.5)), model="tones")
    assert answer["object"] == "prediction"
    assert answer["model"] == transferred["model"]
    assert answer["rejected"] is False
    assert answer["duration_seconds"] == pytest.approx(0.5)
    assert {"decode", "features", "model", "total"} <= set(answer["timings_ms"])
    assert sum(entry["probability"] for entry in answer["top_k"]) == pytest.approx(1, abs=1e-3)
    assert "segments" not in answer
    long = ask(service, wav_bytes(np.concatenate([tone(300, 0.6), tone(900, 0.6)])))
    assert long["segments"][0]["start"] == 0
    assert long["segments"][-1]["end"] == pytest.approx(1.2)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_any_rate_and_channels_are_heard(service: Service, transferred: Json, rate: int, channels: int) -> None:
    wave = np.repeat(tone(600, 0.5, rate=rate, seed=1)[:, None], channels, axis=1)
    assert ask(service, wav_bytes(wave, rate), model=transferred["model"])["label"] == "word1"


def test_an_artifact_goes_out_and_comes_in_again(client: Client, service: Service, transferred: Json, folder: Path) -> None:
    path = folder / "out.tar"
    client.download(f"/models/{transferred['model']}/artifact", path)
    with tarfile.open(path) as archive:
        names = set(archive.getnames())
        card = archive.extractfile("MODEL_CARD.md")
        assert card is not None
        assert "word1" in card.read().decode()
    assert {"model.safetensors", "model.json", "model.onnx", "MODEL_CARD.md"} <= names
    response = httpx2.post(
        f"{service.url}/models", params={"name": "back"}, content=path.read_bytes(), headers={"Content-Type": "application/x-tar"}
    )
    assert response.status_code == 201, response.text
    clip = wav_bytes(tone(900, 0.5))
    again, first = ask(service, clip, model=response.json()["id"]), ask(service, clip, model=transferred["model"])
    assert again["top_k"] == first["top_k"]


def test_aliases_move_and_guard_their_model(client: Client, service: Service, source: Json, transferred: Json) -> None:
    put = httpx2.put(f"{service.url}/aliases/stable", json={"model": transferred["model"]})
    assert put.status_code == 200
    assert put.json()["model"] == transferred["model"]
    refused = httpx2.delete(f"{service.url}/models/{transferred['model']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "model_in_use")
    with pytest.raises(RefusedError) as error:
        client.predict(_one_clip(service), model=str(source["model"]))
    assert error.value.problem["code"] == "modality_mismatch"


def test_events_resume_where_they_broke_off(service: Service, client: Client, transferred: Json) -> None:
    events = list(client.events(str(transferred["id"])))
    middle = events[len(events) // 2]["id"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": middle}
    with httpx2.stream("GET", f"{service.url}/jobs/{transferred['id']}/events", headers=headers, timeout=10) as response:
        resumed = [json.loads(line[6:])["id"] for line in response.iter_lines() if line.startswith("data: ")]
    assert resumed == [event["id"] for event in events if event["id"] > middle]


def test_cancel_keeps_the_best_so_far(client: Client, sounds: Json) -> None:
    job = client.post("/jobs", small(sounds, hyperparameters={"epochs": 5000, "early_stopping_patience": None}))
    for event in client.events(str(job["id"])):
        if event["type"] == "metrics":
            client.post(f"/jobs/{job['id']}/cancel")
            break
    ended = finished(client, str(job["id"]), 30)
    assert ended["status"] == "cancelled"
    assert client.get(f"/models/{ended['model']}")["job"] == job["id"]
    assert [checkpoint["model"] for checkpoint in client.get(f"/jobs/{job['id']}/checkpoints")["data"]] == [ended["model"]]


def test_pause_and_resume(client: Client, sounds: Json) -> None:
    job_id = str(client.post("/jobs", small(sounds, hyperparameters={"epochs": 60, "early_stopping_patience": None}))["id"])
    for event in client.events(job_id):
        if event["type"] == "metrics" and client.get(f"/jobs/{job_id}")["status"] == "running":
            client.post(f"/jobs/{job_id}/pause")
        if event["type"] == "status" and event["data"]["status"] == "paused":
            break
    step = client.get(f"/jobs/{job_id}")["progress"]["step"]
    assert step > 0
    client.post(f"/jobs/{job_id}/resume")
    ended = finished(client, job_id)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 2)
    assert [event["data"]["epoch"] for event in client.events(job_id) if event["type"] == "metrics"] == list(range(1, 61))


def _one_clip(service: Service) -> Path:
    path = service.data_dir / "clip.wav"
    path.write_bytes(wav_bytes(tone(600, 0.5)))
    return path
