"""What a newer version queues while old workers go on: types and fields that they don't know wait for a worker that does."""

import pytest

from tests.faults.conftest import StartWorker
from tests.rig import add_job, change_row, finished, row, statuses
from worker.embedded import Broker
from worker.jobs import get_job, list_jobs
from worker.keeper import Keeper
from worker.lease import claim
from worker.settings import Settings
from worker.supervisor import supervise

NEWER = {
    "type": lambda spec: {"type": "invented", "spec": {"dataset": spec["dataset"], "of": "the next version"}},
    "field": lambda spec: {"spec": {**spec, "invented": True}},
    "value": lambda spec: {"spec": {**spec, "transfer": {**spec["transfer"], "mode": "invented"}}},
    "resolved field": lambda spec: {"resolved": {**spec, "invented": True}},
}


def add_newer(what: str) -> str:
    """Queue a job that a newer version has made."""
    job_id = add_job(steps=2)
    change_row(job_id, **NEWER[what](row(job_id).spec))
    return job_id


@pytest.mark.parametrize("what", NEWER)
def test_what_is_not_known_is_left_as_it_is(settings: Settings, what: str) -> None:
    job_id = add_newer(what)
    for _ in range(4):  # three failures would end it
        supervise(job_id)
    left = row(job_id)
    assert (left.state, left.token, left.failures, left.error) == ("queued", 0, 0, None)
    assert statuses(job_id) == ["queued"]
    assert list(settings.lock_dir.glob("*-*.lock")) == []


@pytest.mark.parametrize("what", NEWER)
def test_it_is_shown_and_can_be_taken_by_who_knows_it(settings: Settings, what: str) -> None:
    job_id = add_newer(what)
    assert [job["id"] for job in list_jobs(limit=5).data] == [job_id]
    assert get_job(job_id)["status"] == "queued"
    assert claim(job_id, "a newer worker:1") is not None


def test_it_waits_for_a_worker_that_knows_it_and_holds_up_no_other(broker: Broker, keeper: Keeper, start_worker: StartWorker) -> None:
    newer = [add_newer(what) for what in ("type", "field")]
    start_worker("old")
    assert finished(add_job(steps=2), 40).token == 1
    assert [(row(job_id).state, row(job_id).token) for job_id in newer] == [("queued", 0)] * 2
    start_worker("new", FAULTS_VERSION="next")
    for job_id in newer:
        assert finished(job_id, 40).state == "succeeded"
        assert statuses(job_id) == ["queued", "running", "succeeded"]
