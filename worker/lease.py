"""The fenced half of the state machine: what the owner of a job may write, and only while it owns it.

    queued ─claim→ running ─finish→ succeeded | failed
      ▲              │ ├─ cancelling → cancelled
      │              │ └─ pausing → paused → queued
      └──release─────┘   lease lost, host lost, drain: the same job goes on from its checkpoint

Every write names the fencing token that the claim gave; a stale owner, asleep beyond its lease, changes no row. `token` counts starts
and is the `attempt` that people see; `failures` counts the starts that speak against the job itself.
"""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, exists, func, not_, or_, select, update
from sqlalchemy.orm import Session, aliased

from worker.database import Event, Job, Outbox, db_now, now, read, write
from worker.settings import get_settings
from worker.states import ACTIVE, TERMINAL
from worker.webhooks import announce

Directive = Literal["run", "pause", "cancel", "lost"]
_DIRECTIVES: dict[str, Directive] = {"running": "run", "pausing": "pause", "cancelling": "cancel"}


@dataclass(frozen=True)
class Claim:
    """A job as its new owner received it."""

    job: Job
    token: int


def add_event(session: Session, job_id: str, kind: str, message: str, *, level: str = "info", data: dict[str, Any] | None = None) -> None:
    """Append one event in the caller's transaction, so that it exists exactly when its cause does."""
    session.add(Event(job_id=job_id, created_at=now(session), level=level, type=kind, message=message[:1000], data=data or {}))


def add_status(session: Session, job_id: str, state: str, message: str, *, level: str = "info", **data: Any) -> None:
    """Append a status event; clients wait for its `data.status`, and those who left an address are told of the last one."""
    add_event(session, job_id, "status", message, level=level, data={"status": state, **data})
    if state in TERMINAL:
        announce(session, job_id)


def send(session: Session, job_id: str, queue: str) -> None:
    """Ask for a message to be published once this transaction has been committed."""
    session.add(Outbox(job_id=job_id, queue=queue, created_at=now(session)))


def claim(job_id: str, owner: str) -> Claim | None:
    """Take a queued job whose time has come. None when there is nothing to take: a duplicate or late message, or a control put off."""
    due = or_(Job.not_before.is_(None), Job.not_before <= db_now())
    with write() as session:
        job = session.scalar(
            update(Job)
            .where(Job.id == job_id, Job.state == "queued", due, not_(put_off()))
            .values(
                state="running",
                token=Job.token + 1,
                owner=owner,
                lease_until=db_now() + get_settings().lease_seconds,
                not_before=None,
                started_at=func.coalesce(Job.started_at, db_now()),
            )
            .returning(Job)
        )
        if job is None:
            # Its message is used up: the keeper sends another one, which waits in the outbox until nobody else does.
            session.execute(update(Job).where(Job.id == job_id, put_off()).values(published_at=None))
            return None
        add_status(session, job_id, "running", f"start {job.token} on {owner}", attempt=job.token)
        return Claim(job, job.token)


def put_off() -> ColumnElement[bool]:
    """Return the condition that a job is a control which lets others go first: an ordinary job of its queue waits."""
    other = aliased(Job)
    waits = exists().where(other.queue == Job.queue, other.state == "queued", other.control_of.is_(None)).correlate(Job)
    return and_(Job.state == "queued", Job.control_of.is_not(None), waits)


def renew(job_id: str, token: int, progress: dict[str, Any] | None = None, **columns: Any) -> Directive:
    """Extend the lease, store progress and columns, and learn what is wanted; "lost" means: stop at once and write nothing more."""
    values: dict[str, Any] = {"lease_until": db_now() + get_settings().lease_seconds, **columns}
    if progress is not None:
        values["progress"] = progress
    with write() as session:
        state = session.scalar(update(Job).where(*_owned(job_id, token)).values(**values).returning(Job.state))
    return _DIRECTIVES[state] if state is not None else "lost"


def record(job_id: str, token: int, events: list[dict[str, Any]], **columns: Any) -> bool:
    """Store events (keyword arguments of `add_event`) and columns of the job; False when the token is stale, and nothing is stored."""
    with write() as session:
        if not hold(session, job_id, token, **columns):
            return False
        for event in events:
            add_event(session, job_id, **event)
        return True


def hold(session: Session, job_id: str, token: int, **columns: Any) -> bool:
    """Write columns of the job in the caller's transaction. False when the token is stale: the caller must write nothing more."""
    return session.scalar(update(Job).where(*_owned(job_id, token)).values(id=Job.id, **columns).returning(Job.id)) is not None


def furthest_checkpoint(job_id: str) -> int:
    """Return the step of the newest checkpoint that any start of the job has reported, 0 without one."""
    with read() as session:
        query = select(Event.data).where(Event.job_id == job_id, Event.type == "checkpoint").order_by(Event.id.desc()).limit(1)
        return int((session.scalar(query) or {}).get("step", 0))


def close(session: Session, job_id: str, token: int, state: str, **columns: Any) -> bool:
    """Write a terminal state in the caller's transaction. False when the token is stale: the caller must roll back."""
    closed = session.scalar(
        update(Job)
        .where(*_owned(job_id, token))
        .values(state=state, owner=None, lease_until=None, finished_at=db_now(), **columns)
        .returning(Job.id)
    )
    return closed is not None


def requeue(session: Session, job: Job, reason: str, *, delay: float = 0.0, counted: bool = False) -> bool:
    """Give a job back in the caller's transaction: to the queue, or to where its user wanted it.

    `delay` is the back-off in seconds; the janitor sends the message when it is over. `counted` adds to the failures.
    """
    state = {"pausing": "paused", "cancelling": "cancelled"}.get(job.state, "queued")
    changed = session.scalar(
        update(Job)
        .where(*_owned(job.id, job.token))
        .values(
            state=state,
            owner=None,
            lease_until=None,
            published_at=None,
            not_before=db_now() + delay if delay else None,
            failures=Job.failures + int(counted),
            finished_at=db_now() if state == "cancelled" else None,
        )
        .returning(Job.id)
    )
    if changed is None:
        return False
    add_status(session, job.id, state, reason, level="warning" if counted else "info")
    if state == "queued" and not delay:
        send(session, job.id, job.queue)
    return True


def _owned(job_id: str, token: int) -> tuple[ColumnElement[bool], ...]:
    return Job.id == job_id, Job.token == token, Job.state.in_(ACTIVE)
