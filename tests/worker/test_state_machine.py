"""The state machine against a plain model of it: any order of wishes, claims, deaths, sweeps and messages, by hypothesis."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError

from tests.faults.fault_points import Faults, on_commit
from tests.rig import add_dataset, add_job, change_row, check_invariants, outbox, row, statuses
from worker import keeper, queue
from worker.database import Event, Job, Outbox, db_now, read, write
from worker.errors import ConflictError
from worker.jobs import cancel_job, pause_job, resume_job
from worker.keeper import sweep
from worker.lease import add_status, claim, close, record, renew, requeue
from worker.queue import relay
from worker.settings import Settings, get_settings
from worker.states import ACTIVE, TERMINAL

DIRECTIVES = {"running": "run", "pausing": "pause", "cancelling": "cancel"}
GIVEN_BACK = {"running": "queued", "pausing": "paused", "cancelling": "cancelled"}
NUMBERS = st.integers(0, 3)
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

    def __init__(self) -> None:
        super().__init__()
        _empty_tables()
        BROKER.messages, BROKER.up = [], True
        self.expected: dict[str, Expected] = {}
        self.starts: list[tuple[str, int]] = []
        self.create()

    @rule()
    @precondition(lambda self: len(self.expected) < 4)
    def create(self) -> None:
        self.expected[add_job(DATASET[0])] = Expected()

    def _job(self, number: int) -> str:
        return list(self.expected)[number % len(self.expected)]

    def _start(self, number: int) -> tuple[str, int]:
        """The latest start, or one before it, whose owner may have lost its job since."""
        return self.starts[-1 - number % len(self.starts)]

    @rule(number=NUMBERS)
    def claim(self, number: int) -> None:
        self._claim(self._job(number))

    def _claim(self, job_id: str) -> None:
        expected = self.expected[job_id]
        claimed = claim(job_id, f"elsewhere:{expected.token}")
        if expected.state != "queued" or expected.resting:
            assert claimed is None
            return
        assert claimed is not None
        expected.token += 1
        expected.go("running")
        assert claimed.token == expected.token
        self.starts.append((job_id, claimed.token))

    @rule(number=NUMBERS)
    @precondition(lambda _: BROKER.messages)
    def deliver(self, number: int) -> None:
        """A message comes, perhaps not for the first time: it stays where it is, so that it can come again."""
        self._claim(BROKER.messages[-1 - number % len(BROKER.messages)])

    @rule(number=NUMBERS, work=st.sampled_from(["claim", "cancel", "pause", "sweep", "relay"]))
    def crash(self, number: int, work: str) -> None:
        """The process dies before its next commit: what it was about to write is not there, and what it has sent is sent again."""
        job_id = self._job(number)
        doing: dict[str, Callable[[], object]] = {
            "claim": lambda: claim(job_id, "elsewhere:0"),
            "cancel": lambda: cancel_job(job_id),
            "pause": lambda: pause_job(job_id),
            "sweep": lambda: sweep(get_settings()),
            "relay": relay,
        }
        with on_commit(Faults(1)), contextlib.suppress(OperationalError, ConflictError, queue.BrokerError):
            doing[work]()

    def _owns(self, job_id: str, token: int) -> bool:
        expected = self.expected[job_id]
        return expected.token == token and expected.state in ACTIVE

    @rule(number=NUMBERS)
    @precondition(lambda self: self.starts)
    def renew(self, number: int) -> None:
        start = self._start(number)
        directive = renew(*start, {"step": 1})
        assert directive == (DIRECTIVES[self.expected[start[0]].state] if self._owns(*start) else "lost")

    @rule(number=NUMBERS)
    @precondition(lambda self: self.starts)
    def report(self, number: int) -> None:
        start = self._start(number)
        assert record(*start, [{"kind": "message", "message": "a word"}], metrics={"loss": 1.0}) == self._owns(*start)

    @rule(number=NUMBERS, state=st.sampled_from(["succeeded", "failed"]))
    @precondition(lambda self: len(self.starts) > 2)
    def finish(self, number: int, state: str) -> None:
        start = self._start(number)
        with write() as session:
            closed = close(session, *start, state)
            if closed:
                add_status(session, start[0], state, "over")
        assert closed == self._owns(*start)
        if closed:
            self.expected[start[0]].go(state)

    @rule(number=NUMBERS, counted=st.booleans())
    @precondition(lambda self: self.starts)
    def give_back(self, number: int, counted: bool) -> None:
        job_id, token = self._start(number)
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

    @rule(number=NUMBERS, wish=st.sampled_from(["pause", "resume", "cancel"]))
    def wish(self, number: int, wish: str) -> None:
        job_id = self._job(number)
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

    @rule(number=NUMBERS)
    def rest_is_over(self, number: int) -> None:
        job_id = self._job(number)
        if self.expected[job_id].resting:
            change_row(job_id, not_before=1.0)
            self.expected[job_id].resting = False

    @rule(number=NUMBERS, taken=st.booleans())
    @precondition(lambda self: self.starts)
    def owner_vanishes(self, number: int, taken: bool) -> None:
        """Its lease runs out; the job may start elsewhere before the owner notices."""
        job_id = self._start(number)[0]
        if self.expected[job_id].state in ACTIVE:
            change_row(job_id, lease_until=1.0)
            self._sweep()
            self._given_back(job_id)
            if taken:
                self._claim(job_id)

    @rule()
    def sweep(self) -> None:
        self._sweep()

    @rule()
    def relay(self) -> None:
        waiting = outbox()
        if not BROKER.up and waiting:
            with pytest.raises(queue.BrokerError):
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
        for job_id, expected in self.expected.items():
            job = row(job_id)
            assert (job.state, job.token, job.failures) == (expected.state, expected.token, expected.failures)
            assert statuses(job_id) == expected.history
            assert expected.state not in TERMINAL or job.lease_until is None

    def teardown(self) -> None:
        """Whatever happened: after a sweep with a broker that works, every job that is due has a message, now or in the outbox."""
        BROKER.up, BROKER.messages = True, []
        due = [job_id for job_id, expected in self.expected.items() if expected.state == "queued" and not expected.resting]
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
    # Not shrunk: each step is a handful of durable transactions, and forty of them can be read as they are.
    asked = example_settings(max_examples=25, stateful_step_count=40, phases=[Phase.generate])
    run_state_machine_as_test(Machine, settings=asked)
