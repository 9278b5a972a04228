"""A job's own webhook, over HTTP: asked for with the job, shown afterwards, refused where nothing could be signed."""

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from tests.app.conftest import check_problem
from worker.settings import Settings

URL = "https://hooks.example.org/secret-path?token=1"


@pytest.fixture
def signing(change_setting: Callable[..., Settings]) -> TestClient:
    return TestClient(create_app(change_setting(webhook_secret="a secret of some length")))


def test_what_became_of_a_message_is_shown_without_its_secret(signing: TestClient, make_dataset: Callable[..., str]) -> None:
    job = signing.post("/jobs", json={"dataset": make_dataset(), "webhook": {"url": URL}}).json()
    assert "secret-path" not in str(job)
    assert signing.get(f"/jobs/{job['id']}/webhooks").json()["data"] == []
    signing.post(f"/jobs/{job['id']}/cancel")
    (found,) = signing.get(f"/jobs/{job['id']}/webhooks").json()["data"]
    assert (found["receiver"], found["status"], found["attempts"]) == ("https://hooks.example.org", "pending", 0)
    check_problem(signing.get("/jobs/job_0/webhooks"), 404, "job_not_found")


@pytest.mark.parametrize("url", ["ftp://example.org/x", "example.org", "https://exämple.org", "https://a b", "https://"])
def test_addresses_that_are_none(signing: TestClient, make_dataset: Callable[..., str], url: str) -> None:
    assert signing.post("/jobs", json={"dataset": make_dataset(), "webhook": {"url": url}}).status_code == 422


def test_nothing_is_promised_that_could_not_be_signed(client: TestClient, make_dataset: Callable[..., str]) -> None:
    response = client.post("/jobs", json={"dataset": make_dataset(), "webhook": {"url": URL}})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/webhook"
    assert "SYNESTHESIA_WEBHOOK_SECRET" in response.json()["hint"]
