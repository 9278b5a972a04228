"""Requests that come twice: one maker, one answer."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from models.errors import InputError, SynesthesiaError
from worker.database import Idempotency, read, write
from worker.errors import ConflictError
from worker.idempotency import Replay, Ticket, abandon, answering, begin, finish, note_made, purge
from worker.settings import Settings


def first(key: str = "k") -> Ticket:
    ticket = begin("jobs", key, "f1")
    assert isinstance(ticket, Ticket)
    return ticket


def age(seconds: float) -> None:
    with write() as session:
        session.execute(update(Idempotency).values(created_at=Idempotency.created_at - seconds))


def code_of(ask: Callable[[], object]) -> str:
    with pytest.raises(SynesthesiaError) as raised:
        ask()
    return raised.value.code


def test_the_second_request_gets_the_first_answer(settings: Settings) -> None:
    finish(first(), status=202, body={"id": "job_1"}, location="/jobs/job_1")
    assert begin("jobs", "k", "f1") == Replay(202, {"id": "job_1"}, "/jobs/job_1")
    assert isinstance(begin("datasets", "k", "f1"), Ticket)
    assert isinstance(begin("jobs", "k2", "f1"), Ticket)


def test_another_request_with_the_key_is_refused(settings: Settings) -> None:
    ticket = first()
    assert code_of(lambda: begin("jobs", "k", "f2")) == "idempotency_mismatch"
    finish(ticket, status=202, body={})
    with pytest.raises(InputError):
        begin("jobs", "k", "f2")


def test_fifty_at_once_have_one_maker(settings: Settings) -> None:
    outcomes: list[str] = []
    gate = threading.Barrier(50)

    def ask() -> None:
        gate.wait()
        try:
            outcome = type(begin("jobs", "k", "f1")).__name__
        except ConflictError as error:
            outcome = error.code
        outcomes.append(outcome)

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Ticket"] + ["idempotency_in_progress"] * 49
    with read() as session:
        assert session.scalar(select(func.count()).select_from(Idempotency)) == 1


def test_a_maker_that_died_is_taken_over_and_can_no_longer_answer(settings: Settings) -> None:
    dead = first()
    assert code_of(lambda: begin("jobs", "k", "f1")) == "idempotency_in_progress"
    age(61)
    heir = first()
    assert heir.token != dead.token
    finish(dead, status=500, body={"late": True})
    abandon(dead)
    assert code_of(lambda: begin("jobs", "k", "f1")) == "idempotency_in_progress"
    finish(heir, status=202, body={"id": "job_2"})
    assert begin("jobs", "k", "f1") == Replay(202, {"id": "job_2"}, None)


def make(ticket: Ticket, object_id: str) -> None:
    with answering(ticket), write() as session:
        note_made(session, object_id)


def test_what_was_made_without_an_answer_is_found_again(settings: Settings) -> None:
    make(first(), "job_1")
    age(61)
    heir = first()
    assert heir.made == "job_1"
    abandon(heir)
    age(61)
    assert first().made == "job_1", "finding it may fail; it is still there"


def test_whoever_was_taken_over_makes_nothing(settings: Settings) -> None:
    dead = first()
    age(61)
    heir = first()
    assert heir.made is None
    assert code_of(lambda: make(dead, "job_1")) == "idempotency_in_progress"
    make(heir, "job_2")
    age(61)
    assert first().made == "job_2"


def test_without_a_key_nothing_is_noted(settings: Settings) -> None:
    with write() as session:
        note_made(session, "job_1")
        assert session.scalar(select(func.count()).select_from(Idempotency)) == 0


def test_a_key_given_back_is_as_new(settings: Settings) -> None:
    abandon(first())
    assert isinstance(begin("jobs", "k", "f2"), Ticket)


def test_an_answer_is_not_given_back(settings: Settings) -> None:
    ticket = first()
    finish(ticket, status=202, body={})
    abandon(ticket)
    assert isinstance(begin("jobs", "k", "f1"), Replay)


def test_answers_grow_old(settings: Settings) -> None:
    finish(first("old"), status=202, body={})
    age(settings.idempotency_seconds + 1)
    finish(first("young"), status=202, body={})
    assert isinstance(begin("jobs", "old", "f2"), Ticket)
    age(settings.idempotency_seconds / 2)
    assert purge() == 0
    age(settings.idempotency_seconds)
    assert purge() == 2
