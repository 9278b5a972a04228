"""Jobs as the API asks for them."""

from collections.abc import Callable
from typing import Any

import pytest

from models.config import JobSpec
from models.errors import ConfigError, SynesthesiaError
from tests.rig import add_dataset, add_job, change_row, row
from worker.database import Dataset, Job, write
from worker.errors import ConflictError, GoneError, NotFoundError, QueueFullError
from worker.jobs import (
    as_json,
    cancel_job,
    count_by_state,
    create_job,
    enqueue,
    get_job,
    list_checkpoints,
    list_events,
    list_jobs,
    resume_job,
    unfinished_using,
)
from worker.lease import claim
from worker.settings import Settings


def spec(dataset: str, **fields: Any) -> JobSpec:
    return JobSpec.model_validate({"dataset": dataset, **fields}, strict=False)


def test_a_new_job_says_all_that_it_will(settings: Settings) -> None:
    dataset = add_dataset()
    job = create_job(spec(dataset, name="first", alias="spoken", metadata={"who": "me"}))
    assert job == get_job(str(job["id"]))
    assert (job["object"], job["type"], job["status"], job["dataset"], job["attempt"]) == ("job", "finetune", "queued", dataset, 0)
    assert (job["name"], job["alias"], job["metadata"]) == ("first", "spoken", {"who": "me"})
    assert job["progress"]["phase"] == "queued"
    assert (job["started_at"], job["finished_at"], job["model"], job["error"], job["worker"]) == (None,) * 5
    assert job["hyperparameters"]["epochs"] == "auto"
    assert create_job(spec(add_dataset(modality="image")))["type"] == "pretrain"


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        ("processing", ConflictError, "dataset_not_ready"),
        ("failed", ConflictError, "dataset_not_ready"),
        ("deleted", GoneError, "dataset_deleted"),
    ],
)
def test_the_dataset_must_be_ready(settings: Settings, status: str, error: type[SynesthesiaError], code: str) -> None:
    with pytest.raises(error) as raised:
        create_job(spec(add_dataset(status=status)))
    assert (raised.value.code, raised.value.param) == (code, "dataset")


def test_an_unknown_dataset(settings: Settings) -> None:
    with pytest.raises(NotFoundError) as raised:
        create_job(spec("ds_0"))
    assert raised.value.code == "dataset_not_found"


@pytest.mark.parametrize(
    ("modality", "fields", "param"),
    [
        ("image", {"type": "finetune"}, "type"),
        ("audio", {"transfer": {"mode": "full"}, "base_model": None}, "transfer.mode"),
        ("audio", {"transfer": {"mode": "full"}, "base_model": "resnet_tiny"}, "transfer.mode"),
        ("audio", {"transfer": {"freeze": "shared"}, "base_model": None}, "transfer.freeze"),
        ("audio", {"transfer": {"mode": "none", "until": "stem"}}, "transfer.until"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_once(settings: Settings, modality: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError) as raised:
        create_job(spec(add_dataset(modality=modality), **fields))
    assert raised.value.param == param
    assert list_jobs().data == []


def test_an_unknown_base_model(settings: Settings) -> None:
    with pytest.raises(NotFoundError) as raised:
        create_job(spec(add_dataset(), base_model="nobody"))
    assert (raised.value.code, raised.value.param) == ("base_model_not_found", "base_model")


def test_the_queue_has_an_end(change_setting: Callable[..., Settings]) -> None:
    change_setting(max_queued_jobs=2)
    jobs = [add_job(), add_job()]
    with pytest.raises(QueueFullError):
        add_job()
    cancel_job(jobs[0])
    add_job()


def test_lists_go_on_after_an_id_and_filter(settings: Settings) -> None:
    jobs = [add_job(number=number % 2) for number in range(5)]
    cancel_job(jobs[2])
    first = list_jobs(limit=2)
    assert ([job["id"] for job in first.data], first.has_more) == ([jobs[4], jobs[3]], True)
    rest = list_jobs(limit=3, after=jobs[3])
    assert ([job["id"] for job in rest.data], rest.has_more) == ([jobs[2], jobs[1], jobs[0]], False)
    assert [job["id"] for job in list_jobs(status="cancelled").data] == [jobs[2]]
    assert [job["id"] for job in list_jobs(metadata={"number": "1"}).data] == [jobs[3], jobs[1]]
    assert list_jobs(metadata={"number": "7"}).data == []
    assert list_jobs(type="pretrain").data == []


def test_reading_an_archive_is_no_job_that_people_see(settings: Settings) -> None:
    dataset = add_dataset(status="processing")
    with write() as session:
        job_id = enqueue(session, type="ingest", queue="data", dataset_id=dataset, spec={}).id
    assert list_jobs().data == []
    for ask in (get_job, cancel_job, resume_job, list_events, list_checkpoints):
        with pytest.raises(NotFoundError) as raised:
            ask(job_id)
        assert raised.value.code == "job_not_found"


def test_events_go_on_after_an_id(settings: Settings) -> None:
    job_id = add_job()
    claim(job_id, "here:1")
    every = list_events(job_id)
    assert [event["data"]["status"] for event in every.data] == ["queued", "running"]
    first = list_events(job_id, limit=1)
    assert (first.data, first.has_more) == (every.data[:1], True)
    assert list_events(job_id, after=first.data[0]["id"]).data == every.data[1:]


@pytest.mark.parametrize("event_id", ["evt_", "evt_x", "evt_-1", "evt_٣", "evt_" + "9" * 30, "; drop"])
def test_an_event_id_of_another_form_is_refused(settings: Settings, event_id: str) -> None:
    with pytest.raises(ConfigError) as raised:
        list_events(add_job(), after=event_id)
    assert raised.value.param == "after"


def test_values_are_shown_as_resolved_once_they_are(settings: Settings) -> None:
    job_id = add_job()
    assert get_job(job_id)["base_model"] == "auto"
    resolved = {**row(job_id).spec, "seed": 7, "base_model": "bundled"}
    change_row(job_id, resolved=resolved)
    assert get_job(job_id)["seed"] == 7
    assert as_json(row(job_id))["base_model"] == "bundled"


def test_counts_and_the_oldest_wait(settings: Settings) -> None:
    assert count_by_state() == ({}, 0.0)
    job_id = add_job()
    change_row(job_id, created_at=row(job_id).created_at - 100)
    claim(add_job(), "here:1")
    counts, oldest = count_by_state()
    assert counts == {"queued": 1, "running": 1}
    assert 100 <= oldest < 160


def test_what_unfinished_jobs_use(settings: Settings) -> None:
    dataset = add_dataset()
    jobs = [add_job(dataset) for _ in range(3)]
    cancel_job(jobs[0])
    claim(jobs[1], "here:1")
    with write() as session:
        assert set(unfinished_using(session, Job.dataset_id, dataset)) == set(jobs[1:])
        assert session.get_one(Dataset, dataset).status == "ready"
