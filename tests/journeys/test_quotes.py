"""A quote and a search over HTTP, with real workers."""

import pytest

from app.client import Client, Json
from tests.service import run_job, small

pytestmark = pytest.mark.xdist_group("service")


def test_a_quote_foretells_the_job(client: Client, sounds: Json) -> None:
    body = small(sounds, base_model=None, hyperparameters={"epochs": 6, "early_stopping_patience": None})
    quote = client.quote(body)
    jobs = list(client.pages("/jobs"))
    job = run_job(client, body)
    assert str(job["id"]) not in [row["id"] for row in jobs]
    assert quote["steps"] == job["metrics"]["steps"]
    for part in ("hyperparameters", "transfer", "features", "augmentation"):
        assert quote["resolved"][part] == job[part]
    # Other tests come and go on the same processors: the order of magnitude is what can be asked for here.
    took = job["metrics"]["training_seconds"]
    [training] = [stage["seconds"] for stage in quote["stages"] if stage["name"] == "training"]
    assert took / 10 < training["expected"] < took * 10


def test_a_search_chooses_what_was_left_open(client: Client, sounds: Json) -> None:
    body = small(sounds, base_model=None, search={"trials": 3})
    job = run_job(client, body)
    told = [event["data"] for event in client.events(str(job["id"])) if event["type"] == "message"]
    trials = [data for data in told if "state" in data]
    assert [trial["trial"] for trial in trials] == [0, 1, 2]
    assert job["search"] == {"trials": 3, "seconds": None}
    assert job["hyperparameters"]["learning_rate"] in [trial["parameters"]["hyperparameters.learning_rate"] for trial in trials]
    assert (job["hyperparameters"]["epochs"], job["hyperparameters"]["batch_size"]) == (4, 16), "what was asked for stays"
    assert set(trials[0]) == {"trial", "parameters", "accuracy", "seconds", "state"}
