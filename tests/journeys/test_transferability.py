"""Ranking sources over HTTP, through every process: to its end, past a killed ranker, and cancelled."""

import pytest

from app.client import Client, Json
from app.schemas.jobs import Job
from tests.service import Service, finished, kill, run_job, small, wait_until

pytestmark = pytest.mark.xdist_group("service")


@pytest.fixture(scope="module")
def heard(client: Client, sounds: Json) -> Json:
    """A model that was trained on the very clips."""
    return run_job(client, small(sounds, base_model="resnet_tiny", transfer={"mode": "none"}))


def test_sources_are_ranked_and_held_against_random_weights(client: Client, sounds: Json, source: Json, heard: Json) -> None:
    started = client.transferability(str(sounds["id"]), [str(source["model"]), str(heard["model"])])
    job = finished(client, str(started["id"]))
    assert job["status"] == "succeeded", job
    assert Job.model_validate(job).result is not None
    result = job["result"]
    assert (result["clips"], result["labels"], result["held_out"], result["skipped"]) == (sounds["splits"]["train"], 3, "group", [])
    rows = {row["candidate"]: row for row in result["candidates"]}
    assert set(rows) == {source["model"], heard["model"], "resnet_tiny"}
    assert [row["rank"] for row in result["candidates"]] == [1, 2, 3]
    assert (rows[heard["model"]]["has_seen_dataset"], rows[source["model"]]["has_seen_dataset"]) == (True, False)
    assert rows["resnet_tiny"]["kind"] == "random"
    assert rows[source["model"]]["random_knn"] == rows["resnet_tiny"]["scores"]["knn"]
    assert [layer["name"] for layer in rows[source["model"]]["layers"]] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert job["id"] in [row["id"] for row in client.get("/jobs", type="transferability")["data"]]
    messages = [event["message"] for event in client.get(f"/jobs/{job['id']}/events")["data"] if event["type"] == "message"]
    assert len(messages) == 3


def test_a_killed_ranker_begins_again(client: Client, service: Service, sounds: Json) -> None:
    job = client.transferability(str(sounds["id"]), ["seed_cnn", "bc_resnet"])
    [ranker] = wait_until(lambda: service.find("worker.ranker"), 60)
    kill(ranker)
    job = finished(client, str(job["id"]))
    assert (job["status"], job["attempt"]) == ("succeeded", 2), job
    assert {row["candidate"] for row in job["result"]["candidates"]} == {"seed_cnn", "bc_resnet"}


def test_a_cancelled_ranking_has_no_result(client: Client, service: Service, sounds: Json) -> None:
    job = client.transferability(str(sounds["id"]))
    wait_until(lambda: service.find("worker.ranker"), 60)
    client.post(f"/jobs/{job['id']}/cancel")
    job = finished(client, str(job["id"]))
    assert (job["status"], job["result"], job["model"]) == ("cancelled", None, None)
