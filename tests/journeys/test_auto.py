"""A request that names a dataset and nothing else: a first answer, a race, a model; and what naming `bundled` means."""

from pathlib import Path

import httpx2
import pytest

from app.client import Client, Json
from models.bundled import bundled_backbone
from tests.conftest import sound_archive, tone, wav_bytes
from tests.service import Service, run_job, small, upload

# The alias `default` goes to the first fine-tune that succeeds; other journeys look for it on the transferred model.
pytestmark = [pytest.mark.xdist_group("service"), pytest.mark.usefixtures("transferred")]


@pytest.fixture(scope="module")
def automatic(client: Client, sounds: Json, source: Json) -> Json:
    """A finished job that left everything open, on a service that holds an image model too."""
    assert source["status"] == "succeeded"
    return run_job(
        client,
        small(
            sounds, transfer={"mode": "auto"}, alias="quick", name="quick", hyperparameters={"epochs": 40, "early_stopping_patience": None}
        ),
    )


def race_of(client: Client, job: Json) -> Json:
    found = [event for event in client.events(str(job["id"])) if event["message"].startswith("auto builds on")]
    assert len(found) == 1
    data: Json = found[0]["data"]
    return data


def test_the_race_is_told_and_its_winner_is_what_the_job_builds_on(client: Client, automatic: Json, source: Json) -> None:
    race = race_of(client, automatic)
    named = {arm["name"] for arm in race["arms"]}
    assert {"bundled", "scratch", source["model"]} <= named
    assert all(0 <= arm["accuracy"] <= 1 for arm in race["arms"])
    assert race["judged"] > 0
    if race["winner"] == "scratch":
        assert (automatic["base_model"], automatic["transfer"]["mode"]) == ("resnet_tiny", "none")
    else:
        assert (automatic["base_model"], automatic["transfer"]["mode"]) == (race["winner"], "full")
    assert client.get(f"/models/{automatic['model']}")["base_model"] == automatic["base_model"]


def test_a_first_answer_is_a_checkpoint_that_can_be_asked(service: Service, client: Client, automatic: Json) -> None:
    first, last = client.get(f"/jobs/{automatic['id']}/checkpoints")["data"]
    assert (first["step"], last["model"]) == (0, automatic["model"])
    assert 0 <= first["metrics"]["left_out_accuracy"] <= 1
    model = client.get(f"/models/{first['model']}")
    assert model["transfer"]["frozen_layers"] == model["transfer"]["shared_layers"] == list(bundled_backbone().layers)
    answer = httpx2.post(
        f"{service.url}/predict", params={"model": first["model"]}, content=wav_bytes(tone(600)), headers={"Content-Type": "audio/wav"}
    )
    assert answer.status_code == 200
    assert answer.json()["label"] in model["labels"]


def test_the_alias_ends_where_more_validation_clips_are_heard(client: Client, automatic: Json) -> None:
    first, last = client.get(f"/jobs/{automatic['id']}/checkpoints")["data"]
    before, after = (checkpoint["metrics"]["validation_accuracy"] for checkpoint in (first, last))
    expected = first["model"] if before > after else last["model"]
    aliases = {alias["name"]: alias["model"] for alias in client.get("/aliases")["data"]}
    assert aliases["quick"] == expected


def test_the_answer_comes_before_training_ends(client: Client, automatic: Json) -> None:
    kinds = [(event["type"], event["data"].get("step")) for event in client.events(str(automatic["id"]))]
    assert kinds.index(("checkpoint", 0)) < next(place for place, (kind, _) in enumerate(kinds) if kind == "metrics")


def test_bundled_can_be_named(client: Client, sounds: Json) -> None:
    job = run_job(client, small(sounds, base_model="bundled", transfer={"mode": "partial", "until": "layer2"}))
    model = client.get(f"/models/{job['model']}")
    assert model["transfer"]["base_model"] == "bundled"
    assert model["transfer"]["shared_layers"] == ["stem", "layer1", "layer2"]
    assert [step["modality"] for step in model["lineage"]] == ["image", "audio"]
    assert model["lineage"][0]["dataset_sha256"] == bundled_backbone().lineage[0].dataset_sha256
    assert len(client.get(f"/jobs/{job['id']}/checkpoints")["data"]) == 1  # an explicit mode gets what it asked for, and no more


def test_full_without_a_base_carries_the_bundled_backbone(client: Client, sounds: Json) -> None:
    job = run_job(client, small(sounds, transfer={"mode": "full"}, hyperparameters={"epochs": 1}))
    assert (job["base_model"], job["transfer"]["mode"]) == ("bundled", "full")


def test_none_without_a_base_is_the_same_network_from_random_weights(client: Client, sounds: Json) -> None:
    job = run_job(client, small(sounds, transfer={"mode": "none"}, hyperparameters={"epochs": 1}))
    assert job["base_model"] == bundled_backbone().network.architecture
    assert client.get(f"/models/{job['model']}")["transfer"]["shared_layers"] == []


def test_backbones_list_the_bundled_one_first(client: Client) -> None:
    first = client.get("/backbones")["data"][0]
    assert (first["id"], first["kind"]) == ("bundled", "bundled")
    assert [layer["name"] for layer in first["layers"]] == list(bundled_backbone().layers)


@pytest.mark.parametrize("clips", [1, 2])
def test_so_few_clips_that_none_can_be_kept_apart_are_enough(client: Client, folder: Path, clips: int) -> None:
    dataset = upload(client, sound_archive(speakers=1, takes=clips, seed=clips), folder, f"{clips}-a-word")
    job = run_job(client, small(dataset, transfer={"mode": "auto"}, hyperparameters={"epochs": 1}))
    told = [event["message"] for event in client.events(str(job["id"])) if event["message"].startswith("auto builds on")]
    assert told == ["auto builds on bundled: there are too few clips to keep any apart and judge by"]
    assert (job["base_model"], job["transfer"]["mode"]) == ("bundled", "full")
