"""kill -9 of each part in the middle of a job, and of the whole tree: the job goes on from its checkpoint and succeeds, once."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.client import Client, Json
from tests.conftest import sound_archive
from tests.faults.invariants import check_data
from tests.service import PARTS, Service, finished, kill, small, upload, wait_until

LONG = {"epochs": 40, "early_stopping_patience": None}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path / "service").start()
    try:
        yield running
    finally:
        running.stop()
    check_data(running.data_dir, settled=True)


def start_job(client: Client, folder: Path) -> str:
    dataset = upload(client, sound_archive(), folder, "tones")
    return str(client.post("/jobs", small(dataset, transfer={"mode": "none"}, hyperparameters=LONG))["id"])


def wait_for_step(client: Client, job_id: str, step: int) -> Json:
    def probe() -> Json | None:
        job = client.get(f"/jobs/{job_id}")
        assert job["status"] in ("queued", "running"), job
        return job if job["progress"]["step"] >= step else None

    return wait_until(probe, 60)


def assert_succeeded_once(client: Client, job_id: str, attempts: int) -> None:
    job = finished(client, job_id, 120)
    assert job["status"] == "succeeded", job
    assert job["attempt"] == attempts
    events = list(client.events(job_id))
    states = [event["data"]["status"] for event in events if event["type"] == "status"]
    assert states.count("succeeded") == 1
    assert states[-1] == "succeeded"
    epochs = [event["data"]["epoch"] for event in events if event["type"] == "metrics"]
    assert set(epochs) == set(range(1, LONG["epochs"] + 1))
    # What a kill costs is at most what lay between two checkpoints: far from a start over.
    assert len(epochs) < LONG["epochs"] * 1.5
    assert [model["job"] for model in client.pages("/models")] == [job_id]


@pytest.mark.parametrize("part", PARTS)
def test_one_part_dies(service: Service, tmp_path: Path, part: str) -> None:
    with service.client() as client:
        job_id = start_job(client, tmp_path)
        wait_for_step(client, job_id, 20)
        victims = service.find(*PARTS[part])
        assert victims
        for victim in victims:
            kill(victim)
        attempts = 2 if part in ("trainer", "worker") else 1
        wait_until(lambda: _alive(client), 20)
        assert_succeeded_once(client, job_id, attempts)


def test_the_whole_tree_dies_three_times(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        job_id = start_job(client, tmp_path)
    reached = 0
    for _ in range(3):
        with service.client() as client:
            reached = wait_for_step(client, job_id, reached + 10)["progress"]["step"]
        service.kill_tree()
        service.start()
    with service.client() as client:
        assert_succeeded_once(client, job_id, 4)
        starts = [event["data"]["step"] for event in client.events(job_id) if event["message"].startswith("going on from step")]
        assert len(starts) == 3
        assert all(later >= earlier for earlier, later in itertools.pairwise(starts))
        assert starts[-1] > 0


def test_a_race_that_dies_is_run_again_and_gives_no_second_answer(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        dataset = upload(client, sound_archive(), tmp_path, "tones")
        job_id = str(client.post("/jobs", small(dataset, transfer={"mode": "auto"}, alias="tones", hyperparameters={"epochs": 40}))["id"])
        wait_until(lambda: client.get(f"/jobs/{job_id}")["progress"]["phase"] == "choosing" or None, 60)
        for victim in service.find(*PARTS["trainer"]):
            kill(victim)
        job = finished(client, job_id, 120)
        assert (job["status"], job["attempt"]) == ("succeeded", 2)
        kept = [checkpoint["model"] for checkpoint in client.get(f"/jobs/{job_id}/checkpoints")["data"]]
        assert len(kept) == 2
        assert sorted(kept) == sorted(str(model["id"]) for model in client.pages("/models"))


def test_an_ingest_that_dies_begins_again(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        path = tmp_path / "big.zip"
        path.write_bytes(sound_archive(words=6, speakers=8, takes=12))
        dataset_id = str(client.upload_dataset(path, name="big")["id"])
        victims = wait_until(lambda: service.find("worker.ingester"), 20)
        for victim in victims:
            kill(victim)
        dataset = client.wait_dataset(dataset_id)
        assert (dataset["status"], dataset["items"]) == ("ready", 6 * 8 * 12)


def test_a_drawing_that_dies_begins_again(service: Service) -> None:
    with service.client() as client:
        dataset_id = str(client.generate_dataset("gratings", labels=60, items_per_label=60)["id"])
        victims = wait_until(lambda: service.find("worker.generator"), 20)
        for victim in victims:
            kill(victim)
        dataset = client.wait_dataset(dataset_id)
        assert (dataset["status"], dataset["items"]) == ("ready", 60 * 60)


def _alive(client: Client) -> bool:
    from app.client import ClientError

    try:
        return bool(client.get("/readyz"))
    except ClientError:
        return False
