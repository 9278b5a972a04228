"""The relay's order and its limits; brokers that fail are in tests/faults/test_delivery.py."""

from collections.abc import Iterator

import pytest

from tests.rig import add_job, outbox, row
from worker import queue
from worker.embedded import Broker
from worker.queue import RUN_TASK, _celery, ping, relay, waiting_messages
from worker.settings import Settings


class Recorder:
    """Takes messages up to a number, then fails."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sent: list[tuple[str, str]] = []

    def send_task(self, name: str, *, args: list[str], queue: str) -> None:
        assert name == RUN_TASK
        if len(self.sent) == self.limit:
            raise ConnectionResetError
        self.sent.append((args[0], queue))


@pytest.fixture(autouse=True)
def _fresh(settings: Settings) -> Iterator[None]:
    _celery.cache_clear()
    yield
    _celery.cache_clear()


def test_messages_go_out_oldest_first_and_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [add_job() for _ in range(3)]
    broker = Recorder(10)
    monkeypatch.setattr(queue, "_celery", lambda: broker)
    assert relay() == 3
    assert relay() == 0
    assert broker.sent == [(job_id, "train") for job_id in jobs]
    assert all(row(job_id).published_at is not None for job_id in jobs)


def test_a_failure_in_the_middle_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [add_job() for _ in range(3)]
    broker = Recorder(1)
    monkeypatch.setattr(queue, "_celery", lambda: broker)
    with pytest.raises(queue.BrokerError):
        relay()
    assert outbox() == jobs[1:]
    assert [row(job_id).published_at is None for job_id in jobs] == [False, True, True]


def test_one_round_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(105):
        add_job()
    broker = Recorder(1000)
    monkeypatch.setattr(queue, "_celery", lambda: broker)
    assert [relay(), relay(), relay()] == [100, 5, 0]


def test_a_real_broker_counts_and_answers(settings: Settings) -> None:
    broker = Broker(settings.data_dir)
    broker.start()
    try:
        assert ping()
        add_job()
        assert waiting_messages("train") == 0
        assert relay() == 1
        assert (waiting_messages("train"), waiting_messages("data")) == (1, 0)
        _celery().close()
    finally:
        broker.kill()
    assert not ping()
