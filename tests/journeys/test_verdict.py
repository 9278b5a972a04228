"""From a finetune that wants to know whether its transfer paid, over its controls, to the verdict; with everything killed on the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.client import Client, Json
from tests.conftest import picture_archive, sound_archive
from tests.service import Service, finished, run_job, small, upload, wait_until

LONG = {"epochs": 40, "early_stopping_patience": None}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path / "service").start()
    try:
        yield running
    finally:
        running.stop()


def running_control(client: Client, job_id: str) -> Json | None:
    """The first control, once it has learnt a little."""
    [scratch, *_] = client.get(f"/jobs/{job_id}")["controls"]
    control: Json = client.get(f"/jobs/{scratch['job']}")
    assert control["status"] in ("queued", "running"), control
    return control if control["progress"]["step"] >= 5 else None


def test_a_transfer_is_judged_though_everything_dies_on_the_way(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        source = run_job(client, small(upload(client, picture_archive(), tmp_path, "stripes"), name="stripes"))
        sounds = upload(client, sound_archive(), tmp_path, "tones")
        asked = {"base_model": source["model"], "transfer": {"mode": "full"}, "evaluation": {"controls": "full"}, "alias": "tones"}
        job = run_job(client, small(sounds, hyperparameters=LONG, **asked))
        assert client.get("/models/tones")["id"] == job["model"], "nobody waits for a verdict to be served"
        wait_until(lambda: running_control(client, job["id"]), 60)
    service.kill_tree()
    service.start()
    with service.client() as client:
        controls = client.get(f"/jobs/{job['id']}")["controls"]
        assert [control["name"] for control in controls] == ["scratch", "frozen"]
        ended = [finished(client, control["job"]) for control in controls]
        assert [(control["status"], control["attempt"]) for control in ended] == [("succeeded", 2), ("succeeded", 1)]
        worth = client.get(f"/models/{job['model']}/evaluation")["transfer"]
        assert worth["verdict"] in ("positive", "neutral", "negative"), worth
        assert [row["model"] for row in worth["controls"]] == [control["model"] for control in ended]
        assert worth["accuracy"] - worth["controls"][0]["accuracy"] == pytest.approx(worth["gain"])
        scratch, frozen = (client.get(f"/models/{control['model']}") for control in ended)
        carried = client.get("/models/tones")["transfer"]["shared_layers"]
        assert (scratch["transfer"]["shared_layers"], frozen["transfer"]["frozen_layers"]) == ([], carried)
        told = [event["data"].get("transfer") for event in client.pages(f"/jobs/{job['id']}/events")]
        assert told[-1] == worth
        assert client.download(f"/models/{job['model']}/artifact", tmp_path / "model.tar") > 0
        assert worth["sentence"].encode() in (tmp_path / "model.tar").read_bytes()
