import concurrent.futures
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.schemas.jobs import CheckpointList, EventList, Job, JobList
from tests.app.conftest import check_problem
from worker.settings import Settings

CHANGES = {
    "queued": {"cancel": "cancelled", "pause": "paused"},
    "running": {"cancel": "cancelling", "pause": "pausing"},
    "pausing": {"cancel": "cancelling"},
    "paused": {"cancel": "cancelled", "resume": "queued"},
    "cancelling": {},
    "succeeded": {},
    "failed": {},
    "cancelled": {},
}
REFUSALS = {"cancel": "job_not_cancellable", "pause": "job_not_pausable", "resume": "job_not_resumable"}


@pytest.fixture
def job(client: TestClient, make_dataset: Callable[..., str]) -> str:
    return str(client.post("/jobs", json={"dataset": make_dataset()}).json()["id"])


def set_state(job: str, state: str) -> None:
    from sqlalchemy import update

    from worker import database

    with database.write() as session:
        session.execute(update(database.Job).where(database.Job.id == job).values(state=state))


def add_events(job: str, *events: dict[str, Any]) -> None:
    from worker.database import write
    from worker.lease import add_event

    with write() as session:
        for event in events:
            add_event(session, job, **event)


STATUS = {"kind": "status", "message": "x", "data": {"status": "running"}}
METRICS = {"kind": "metrics", "message": "x", "data": {"epoch": 1, "validation_accuracy": 0.5}}
END = {"kind": "status", "message": "done", "data": {"status": "succeeded"}}


def test_a_job_is_queued_with_what_was_asked(client: TestClient, make_dataset: Callable[..., str]) -> None:
    body = {
        "dataset": make_dataset(),
        "hyperparameters": {"epochs": 3},
        "name": "digits-v1",
        "alias": "digits",
        "metadata": {"team": "ivr"},
    }
    response = client.post("/jobs", json=body)
    assert response.status_code == 202
    job = Job.model_validate(response.json())
    assert response.headers["location"] == f"/jobs/{job.id}"
    assert (job.type, job.status, job.attempt, job.name, job.alias) == ("finetune", "queued", 0, "digits-v1", "digits")
    assert (job.hyperparameters["epochs"], job.hyperparameters["batch_size"], job.metadata) == (3, "auto", {"team": "ivr"})
    assert (job.progress.phase, job.progress.fraction, job.model, job.error) == ("queued", 0.0, None, None)
    assert client.get(f"/jobs/{job.id}").json() == response.json()


def test_pictures_pretrain_by_default(client: TestClient, make_dataset: Callable[..., str]) -> None:
    assert client.post("/jobs", json={"dataset": make_dataset(modality="image")}).json()["type"] == "pretrain"


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"dataset": "ds_0123"}, 404, "dataset_not_found", "/dataset"),
        ({"type": "finetune", "modality": "image"}, 422, "config_invalid", "/type"),
        ({"base_model": "nothing"}, 404, "base_model_not_found", "/base_model"),
        ({"base_model": "../../etc"}, 404, "base_model_not_found", "/base_model"),
        ({"transfer": {"mode": "full"}, "base_model": None}, 422, "config_invalid", "/transfer/mode"),
        ({"transfer": {"mode": "full"}, "base_model": "resnet_tiny"}, 422, "config_invalid", "/transfer/mode"),
        ({"transfer": {"freeze": "shared"}, "base_model": None}, 422, "config_invalid", "/transfer/freeze"),
        ({"transfer": {"until": "stem"}, "base_model": None}, 422, "config_invalid", "/transfer/mode"),
        ({"transfer": {"mode": "none", "until": "stem"}}, 422, "config_invalid", "/transfer/until"),
        ({"hyperparameters": {"optimizer": "lion"}}, 422, "validation_error", "/hyperparameters/optimizer"),
        ({"hyperparameters": {"epochs": True}}, 422, "validation_error", "/hyperparameters/epochs"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, 422, "validation_error", "/metadata"),
        ({"unknown": 1}, 422, "validation_error", "/unknown"),
    ],
)
def test_what_can_t_be_carried_out_is_refused_at_once(
    client: TestClient, make_dataset: Callable[..., str], body: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    dataset = make_dataset(modality=body.pop("modality", "audio"))
    problem = check_problem(client.post("/jobs", json={"dataset": dataset} | body), status, code)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert client.get("/jobs").json()["data"] == []


def test_an_unknown_layer_is_refused_with_those_that_exist(
    client: TestClient, make_dataset: Callable[..., str], make_model: Callable[..., str]
) -> None:
    transfer = {"mode": "partial", "until": "layer99"}
    response = client.post("/jobs", json={"dataset": make_dataset(), "base_model": make_model(), "transfer": transfer})
    assert "stem" in check_problem(response, 422, "config_invalid")["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"", "application/json", 400, "malformed_json"),
        (b'{"dataset": NaN}', "application/json", 400, "malformed_json"),
        (b'{"dataset": "\\ud800"}', "application/json; charset=utf-8", 400, "malformed_json"),
        (b"[" * 100_000, "application/json", 400, "malformed_json"),
        (b"[]", "application/merge-patch+json", 422, "validation_error"),
        (b'{"name": "' + b"x" * 300_000 + b'"}', "application/json", 413, "body_too_large"),
    ],
)
def test_bodies_that_are_no_description(client: TestClient, content: bytes, kind: str, status: int, code: str) -> None:
    check_problem(client.post("/jobs", content=content, headers={"Content-Type": kind} if kind else {}), status, code)


def test_a_key_makes_one_job_of_fifty_requests(client: TestClient, make_dataset: Callable[..., str]) -> None:
    body = {"dataset": make_dataset()}
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: client.post("/jobs", json=body, headers={"Idempotency-Key": "k"}), range(50)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len(client.get("/jobs").json()["data"]) == 1
    replay = client.post("/jobs", json=body | {"seed": 0}, headers={"Idempotency-Key": "k"})
    assert replay.headers["idempotent-replayed"] == "true", "a default that is written out is the same request"
    check_problem(client.post("/jobs", json=body | {"seed": 1}, headers={"Idempotency-Key": "k"}), 422, "idempotency_mismatch")


def test_keys_of_one_operation_say_nothing_about_another(client: TestClient, make_dataset: Callable[..., str]) -> None:
    from tests.conftest import zip_bytes

    client.post("/jobs", json={"dataset": make_dataset()}, headers={"Idempotency-Key": "k"})
    archive = zip_bytes({"a/1.wav": b"x", "b/1.wav": b"y"})
    headers = {"Idempotency-Key": "k", "Content-Type": "application/zip"}
    assert client.post("/datasets?name=x", content=archive, headers=headers).status_code == 202


def test_a_full_queue_takes_no_more(change_setting: Callable[..., Settings], make_dataset: Callable[..., str]) -> None:
    from app.main import create_app

    with TestClient(create_app(change_setting(max_queued_jobs=1))) as client:
        body = {"dataset": make_dataset()}
        assert client.post("/jobs", json=body).status_code == 202
        check_problem(client.post("/jobs", json=body), 503, "queue_full")


def test_wishes_in_every_state(client: TestClient, job: str) -> None:
    for state, changes in CHANGES.items():
        for verb, code in REFUSALS.items():
            set_state(job, state)
            response = client.post(f"/jobs/{job}/{verb}")
            if verb in changes:
                assert (response.status_code, Job.model_validate(response.json()).status) == (202, changes[verb])
            else:
                assert state in check_problem(response, 409, code)["detail"]


def test_lists_are_filtered(client: TestClient, make_dataset: Callable[..., str]) -> None:
    dataset = make_dataset()
    a, b = (client.post("/jobs", json={"dataset": dataset, "metadata": {"team": team, "k.e-y": "x"}}).json()["id"] for team in "ab")
    client.post(f"/jobs/{b}/cancel")

    def found(query: str) -> list[str]:
        return [row.id for row in JobList.model_validate(client.get(f"/jobs?{query}").json()).data]

    assert found("") == [b, a]
    assert found("status=cancelled") == [b]
    assert found("type=finetune") == [b, a]
    assert found("type=pretrain") == []
    assert found("metadata[team]=a") == [a]
    assert found("metadata%5Bteam%5D=a&metadata[k.e-y]=x") == [a]
    assert found("metadata[team]=a' OR 1=1 --") == []
    assert found("metadata[nothing]=a") == []
    assert found(f"limit=1&after={b}") == [a]


def test_events_are_listed_oldest_first(client: TestClient, job: str) -> None:
    add_events(job, STATUS, METRICS)
    events = EventList.model_validate(client.get(f"/jobs/{job}/events").json())
    assert [event.type for event in events.data] == ["status", "status", "metrics"]
    page = client.get(f"/jobs/{job}/events?limit=1&after={events.data[0].id}").json()
    assert (page["data"][0]["id"], page["has_more"]) == (events.data[1].id, True)
    header = client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": events.data[1].id}).json()
    assert [event["type"] for event in header["data"]] == ["metrics"]
    check_problem(client.get(f"/jobs/{job}/events?after=x"), 422, "validation_error")
    check_problem(client.get(f"/jobs/{job}/events", headers={"Last-Event-ID": "x"}), 422, "validation_error")
    check_problem(client.get(f"/jobs/{job}/events?limit=1001"), 422, "validation_error")


def events_of(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """id, event and data of each message; whatever is not of that form fails."""
    retry, *blocks = text.removesuffix("\n\n").split("\n\n")
    assert retry == "retry: 2000"
    found = []
    for block in blocks:
        first, second, third = block.split("\n")
        found.append((first.removeprefix("id: "), second.removeprefix("event: "), json.loads(third.removeprefix("data: "))))
    return found


@pytest.mark.parametrize("accept", ["text/event-stream", "text/html, Text/Event-Stream;q=0.9, */*;q=0.1"])
def test_a_stream_ends_after_the_terminal_event(client: TestClient, job: str, accept: str) -> None:
    add_events(job, METRICS, END)
    response = client.get(f"/jobs/{job}/events", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    events = events_of(response.text)
    assert [(kind, data["type"]) for _, kind, data in events] == [("status", "status"), ("metrics", "metrics"), ("status", "status")]
    assert [event_id for event_id, _, _ in events] == [data["id"] for _, _, data in events]
    resumed = client.get(f"/jobs/{job}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": events[1][0]})
    assert events_of(resumed.text) == events[2:]


def test_a_stream_for_one_who_has_seen_the_end_ends(client: TestClient, job: str) -> None:
    add_events(job, END)
    set_state(job, "succeeded")
    last = client.get(f"/jobs/{job}/events").json()["last_id"]
    response = client.get(f"/jobs/{job}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": last})
    assert events_of(response.text) == []


def test_a_message_with_line_breaks_stays_one_message(client: TestClient, job: str) -> None:
    add_events(job, {"kind": "message", "message": "a\n\ndata: forged\r\nid: 9"}, END)
    events = events_of(client.get(f"/jobs/{job}/events", headers={"Accept": "text/event-stream"}).text)
    assert events[1][2]["message"] == "a\n\ndata: forged\r\nid: 9"


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*", ""])
def test_events_come_as_json_or_stream_only(client: TestClient, job: str, accept: str) -> None:
    check_problem(client.get(f"/jobs/{job}/events", headers={"Accept": accept}), 406, "not_acceptable")


def test_a_stream_of_an_absent_job_is_a_problem(client: TestClient) -> None:
    check_problem(client.get("/jobs/job_0/events", headers={"Accept": "text/event-stream"}), 404, "job_not_found")
    check_problem(client.get("/jobs/job_0/events?after=1", headers={"Accept": "text/event-stream"}), 404, "job_not_found")


def test_checkpoints(client: TestClient, job: str) -> None:
    assert CheckpointList.model_validate(client.get(f"/jobs/{job}/checkpoints").json()).data == []


def test_reading_an_archive_is_not_shown_as_a_job(client: TestClient) -> None:
    from sqlalchemy import select

    from tests.conftest import zip_bytes
    from worker import database

    archive = zip_bytes({"a/1.wav": b"x", "b/1.wav": b"y"})
    client.post("/datasets?name=x", content=archive, headers={"Content-Type": "application/zip"})
    with database.read() as session:
        hidden = session.scalars(select(database.Job.id)).one()
    check_problem(client.get(f"/jobs/{hidden}"), 404, "job_not_found")
    check_problem(client.post(f"/jobs/{hidden}/cancel"), 404, "job_not_found")
    assert client.get("/jobs").json()["data"] == []
