"""The state machine against a plain model of it: any order of wishes, claims, deaths, sweeps and messages, by hypothesis."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from tests.rig import add_dataset, add_job, change_row, check_invariants, outbox, row, statuses
from worker import keeper, queue
from worker.database import Event, Job, Outbox, db_now, read, write
from worker.errors import ConflictError
from worker.jobs import cancel_job, pause_job, resume_job
from worker.keeper import sweep
from worker.lease import ACTIVE, TERMINAL, add_status, claim, close, record, renew, requeue
from worker.queue import relay
from worker.settings import Settings, get_settings

DIRECTIVES = {"running": "run", "pausing": "pause", "cancelling": "cancel"}
GIVEN_BACK = {"running": "queued", "pausing": "paused", "cancelling": "cancelled"}
WISHES: dict[str, tuple[Any, dict[str, str]]] = {
    "cancel": (cancel_job, {"queued": "cancelled", "paused": "cancelled", "running": "cancelling", "pausing": "cancelling"}),
    "pause": (pause_job, {"queued": "paused", "running": "pausing"}),
    "resume": (resume_job, {"paused": "queued"}),
}


class StubBroker:
    """Takes messages while it is up, and forgets them when told to."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.up = True

    def send_task(self, _name: str, *, args: list[str], queue: str) -> None:
        assert queue == "train"
        if not self.up:
            raise ConnectionError("down")
        self.messages += args


@dataclass
class Expected:
    """What the model knows of a job."""

    state: str = "queued"
    token: int = 0
    failures: int = 0
    resting: bool = False  # in a pause after a failure
    history: list[str] = field(default_factory=lambda: ["queued"])

    def go(self, state: str) -> None:
        self.state = state
        self.history.append(state)


class Machine(RuleBasedStateMachine):
    """Every rule does something to the real tables and the same to the model."""

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    @initialize()
    def begin(self) -> None:
        _empty_tables()
        BROKER.messages, BROKER.up = [], True
        self.expected: dict[str, Expected] = {}

    @rule(target=jobs)
    def create(self) -> str:
        job_id = add_job(DATASET[0])
        self.expected[job_id] = Expected()
        return job_id

    @rule(target=claims, job_id=jobs)
    def claim(self, job_id: str) -> Any:
        expected = self.expected[job_id]
        claimed = claim(job_id, f"elsewhere:{expected.token}")
        if expected.state != "queued" or expected.resting:
            assert claimed is None
            return multiple()
        assert claimed is not None
        expected.token += 1
        expected.go("running")
        assert claimed.token == expected.token
        return (job_id, claimed.token)

    def _owns(self, job_id: str, token: int) -> bool:
        expected = self.expected[job_id]
        return expected.token == token and expected.state in ACTIVE

    @rule(start=claims)
    def renew(self, start: tuple[str, int]) -> None:
        directive = renew(*start, {"step": 1})
        assert directive == (DIRECTIVES[self.expected[start[0]].state] if self._owns(*start) else "lost")

    @rule(start=claims)
    def report(self, start: tuple[str, int]) -> None:
        assert record(*start, [{"kind": "message", "message": "a word"}], metrics={"loss": 1.0}) == self._owns(*start)

    @rule(start=claims, state=st.sampled_from(["succeeded", "failed"]))
    def finish(self, start: tuple[str, int], state: str) -> None:
        with write() as session:
            closed = close(session, *start, state)
            if closed:
                add_status(session, start[0], state, "over")
        assert closed == self._owns(*start)
        if closed:
            self.expected[start[0]].go(state)

    @rule(start=claims, counted=st.booleans())
    def give_back(self, start: tuple[str, int], counted: bool) -> None:
        job_id, token = start
        owned = self._owns(job_id, token)
        job = row(job_id)
        job.token = token  # as its owner remembers it
        with write() as session:
            assert requeue(session, job, "given back", delay=3600.0 * counted, counted=counted) == owned
        if owned:
            self._given_back(job_id)
            self.expected[job_id].failures += counted
            self.expected[job_id].resting = counted

    def _given_back(self, job_id: str) -> None:
        expected = self.expected[job_id]
        expected.go(GIVEN_BACK[expected.state])

    @rule(job_id=jobs, wish=st.sampled_from(sorted(WISHES)))
    def wish(self, job_id: str, wish: str) -> None:
        do, targets = WISHES[wish]
        expected = self.expected[job_id]
        target = targets.get(expected.state)
        if target is None:
            with pytest.raises(ConflictError):
                do(job_id)
            return
        assert do(job_id)["status"] == target
        expected.go(target)
        expected.resting = False

    @rule(job_id=jobs)
    def rest_is_over(self, job_id: str) -> None:
        if self.expected[job_id].resting:
            change_row(job_id, not_before=1.0)
            self.expected[job_id].resting = False

    @rule(job_id=jobs)
    def owner_vanishes(self, job_id: str) -> None:
        if self.expected[job_id].state in ACTIVE:
            change_row(job_id, lease_until=1.0)
            self._sweep()
            self._given_back(job_id)

    @rule()
    def sweep(self) -> None:
        self._sweep()

    @rule()
    def relay(self) -> None:
        waiting = outbox()
        if not BROKER.up and waiting:
            with pytest.raises(ConnectionError):
                relay()
            assert outbox() == waiting
            return
        assert relay() == len(waiting)
        assert BROKER.messages[-len(waiting) :] == waiting or not waiting

    @rule(up=st.booleans())
    def broker(self, up: bool) -> None:
        BROKER.up = up
        BROKER.messages = []

    @staticmethod
    def _sweep() -> None:
        sweep(get_settings())
        with read() as session:
            assert session.scalars(select(Job.id).where(Job.state.in_(ACTIVE), Job.lease_until < db_now())).all() == []

    @invariant()
    def tables_say_what_the_model_says(self) -> None:
        check_invariants()
        for job_id, expected in getattr(self, "expected", {}).items():
            job = row(job_id)
            assert (job.state, job.token, job.failures) == (expected.state, expected.token, expected.failures)
            assert statuses(job_id) == expected.history
            assert expected.state not in TERMINAL or job.lease_until is None

    def teardown(self) -> None:
        """Whatever happened: after a sweep with a broker that works, every job that is due has a message, now or in the outbox."""
        BROKER.up, BROKER.messages = True, []
        due = [job_id for job_id, expected in getattr(self, "expected", {}).items() if expected.state == "queued" and not expected.resting]
        for job_id in due:
            change_row(job_id, published_at=1.0)
        if due:
            sweep(get_settings())
            relay()
        assert set(due) <= set(BROKER.messages)


BROKER = StubBroker()
DATASET: list[str] = []


def _empty_tables() -> None:
    with write() as session:
        for table in (Event, Outbox, Job):
            session.execute(delete(table))


def test_the_state_machine_does_what_its_model_does(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_celery", lambda: BROKER)
    monkeypatch.setattr(keeper, "waiting_messages", lambda _: len(BROKER.messages))
    DATASET[:] = [add_dataset()]
    run_state_machine_as_test(Machine, settings=example_settings(max_examples=12, stateful_step_count=30, deadline=None))
