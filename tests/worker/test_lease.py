"""Single writes of the fenced half; their orders are in test_state_machine.py."""

from tests.rig import add_job, change_row, events, outbox, row
from worker.database import Job, now, read, write
from worker.lease import claim, close, furthest_checkpoint, record, renew, requeue
from worker.settings import Settings


def test_a_claim_takes_the_job_with_a_lease_by_the_databases_clock(settings: Settings) -> None:
    job_id = add_job()
    claimed = claim(job_id, "here:1")
    assert claimed is not None
    with read() as session:
        moment = now(session)
    job = row(job_id)
    assert (claimed.token, job.token, job.owner, job.state) == (1, 1, "here:1", "running")
    assert job.lease_until is not None
    assert abs(job.lease_until - moment - settings.lease_seconds) < 5
    assert claim("job_unknown", "here:1") is None


def test_renewing_moves_the_lease_and_keeps_progress_when_there_is_none_new(settings: Settings) -> None:
    job_id = add_job()
    claim(job_id, "here:1")
    change_row(job_id, lease_until=1.0)
    assert renew(job_id, 1, {"step": 3}) == "run"
    assert renew(job_id, 1) == "run"
    job = row(job_id)
    assert job.progress == {"step": 3}
    assert job.lease_until is not None
    assert job.lease_until > 1e9


def test_a_stale_owner_writes_nothing(settings: Settings) -> None:
    job_id = add_job()
    claim(job_id, "here:1")
    before = len(events(job_id))
    assert not record(job_id, 0, [{"kind": "message", "message": "old"}], metrics={"loss": 9.0})
    assert renew(job_id, 0, {"step": 9}) == "lost"
    with write() as session:
        assert not close(session, job_id, 0, "succeeded")
    assert (len(events(job_id)), row(job_id).metrics, row(job_id).state) == (before, {}, "running")


def test_giving_back_with_a_delay_sends_no_message_yet(settings: Settings) -> None:
    job_id = add_job()
    for delay, messages in ((5.0, 1), (0.0, 2)):
        change_row(job_id, not_before=None)
        claim(job_id, "here:1")
        with write() as session:
            assert requeue(session, session.get_one(Job, job_id), "again", delay=delay)
        assert len(outbox()) == messages
        assert (row(job_id).not_before is None) == (delay == 0.0)


def test_the_furthest_checkpoint_is_that_of_any_start(settings: Settings) -> None:
    job_id = add_job()
    assert furthest_checkpoint(job_id) == 0
    claim(job_id, "here:1")
    for step in (10, 20):
        record(job_id, 1, [{"kind": "checkpoint", "message": "kept", "data": {"step": step}}])
    assert furthest_checkpoint(job_id) == 20


def test_long_messages_are_cut(settings: Settings) -> None:
    job_id = add_job()
    claim(job_id, "here:1")
    record(job_id, 1, [{"kind": "message", "message": "x" * 5000}])
    assert len(events(job_id)[-1].message) == 1000
