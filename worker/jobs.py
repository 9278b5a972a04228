"""Jobs as the API sees them: create, read, cancel, pause, resume. What their owners write is in worker/lease.py."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from models.config import AUTO, JobSpec
from models.errors import ConfigError
from models.search import require_optuna
from worker.audit import note
from worker.database import Dataset, Event, Job, db_now, new_id, now, read, write
from worker.errors import ConflictError, NotFoundError
from worker.idempotency import note_made
from worker.judgement import settle
from worker.lease import add_status, send
from worker.owners import ALL_OWNERS
from worker.pages import Page, rfc3339
from worker.quotas import check_queue
from worker.ready import lock_ready_dataset
from worker.registry import BaseModel, find_base_model
from worker.states import ACTIVE, INTERNAL, TERMINAL
from worker.transfer_checks import check_transfer
from worker.webhooks import check_webhook

NO_PROGRESS = {"phase": "queued", "epoch": 0, "epochs": None, "step": 0, "steps": None, "fraction": 0.0, "eta_seconds": None}


@dataclasses.dataclass(frozen=True)
class _Change:
    """One wish of a user: where it leads from each state that allows it."""

    verb: str
    code: str
    targets: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Checked:
    """A job that can be queued."""

    dataset: Dataset
    spec: JobSpec  # with its type
    base_model_id: str | None  # a model of ours that it builds on


_CANCEL = _Change(
    "cancelled", "job_not_cancellable", {"queued": "cancelled", "paused": "cancelled", "running": "cancelling", "pausing": "cancelling"}
)
_PAUSE = _Change("paused", "job_not_pausable", {"queued": "paused", "running": "pausing"})
_RESUME = _Change("resumed", "job_not_resumable", {"paused": "queued"})


def create_job(spec: JobSpec) -> dict[str, Any]:
    """Check `spec` against what exists, queue it, and return the job as JSON.

    Raises NotFoundError and GoneError (dataset, model), ConflictError (dataset not ready), ConfigError (fields that do not fit
    together), QueueFullError, QuotaError.
    """
    with write() as session:
        found = check_job(session, spec)
        job = enqueue(
            session,
            type=str(found.spec.type),
            queue="train",
            dataset_id=found.dataset.id,
            owned_by=found.dataset.owned_by,  # an administrator's job on somebody's recordings makes that one's model
            spec=found.spec.model_dump(mode="json", exclude={"webhook"}),  # an address is often a secret: it goes into no model
            webhook=spec.webhook.url if spec.webhook else None,
            base_model_id=found.base_model_id,
            name=spec.name,
            alias=spec.alias,
            meta=dict(spec.metadata),
        )
        note(session, job.id)
        note_made(session, job.id)
        return as_json(job)


def check_job(session: Session, spec: JobSpec) -> Checked:
    """Return what a job of `spec` would begin with. Raises what `create_job` raises; writes nothing."""
    dataset = lock_ready_dataset(session, spec.dataset)
    spec = spec.model_copy(update={"type": _job_type(spec, dataset.modality)})
    base = _base_of(session, spec)
    check_transfer(spec, base)
    check_webhook(spec.webhook.url if spec.webhook else None)
    if spec.search is not None:
        require_optuna()
    check_queue(session)
    return Checked(dataset, spec, base.model_id if base else None)


def enqueue(session: Session, *, type: str, queue: str, dataset_id: str, spec: dict[str, Any], **columns: Any) -> Job:  # noqa: A002 - the column's name
    """Add a queued job, its first event and its message to the caller's transaction."""
    created = now(session)
    job = Job(
        id=new_id("job"), type=type, queue=queue, state="queued", dataset_id=dataset_id, spec=spec,
        token=0, failures=0, progress=dict(NO_PROGRESS), metrics={}, checkpoints=[], created_at=created, **columns,
    )  # fmt: skip
    session.add(job)
    session.flush()
    add_status(session, job.id, "queued", "accepted")
    send(session, job.id, queue)
    return job


def get_job(job_id: str) -> dict[str, Any]:
    """Return one job as JSON. Raises NotFoundError."""
    with read() as session:
        return as_json(_find(session, job_id), _controls_of(session, [job_id]))


def list_jobs(
    *,
    limit: int = 20,
    after: str | None = None,
    status: str | None = None,
    type: str | None = None,  # noqa: A002 - the field's name
    control_of: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Page:
    """Return jobs, newest first; `after` is the last id of the page before. Controls are listed only for the job that they belong to."""
    where: list[ColumnElement[bool]] = [Job.type.not_in(INTERNAL), Job.control_of == control_of]
    if after:
        where.append(Job.id < after)
    if status:
        where.append(Job.state == status)
    if type:
        where.append(Job.type == type)
    where += [Job.meta[key].as_string() == value for key, value in (metadata or {}).items()]
    with read() as session:
        rows = session.scalars(select(Job).where(*where).order_by(Job.id.desc()).limit(limit + 1)).all()
        controls = _controls_of(session, [job.id for job in rows])
    return Page([as_json(job, controls) for job in rows[:limit]], len(rows) > limit)


def cancel_job(job_id: str) -> dict[str, Any]:
    """End a job; what it has learnt so far stays as a model. Raises NotFoundError, ConflictError."""
    return _change(job_id, _CANCEL)


def pause_job(job_id: str) -> dict[str, Any]:
    """Stop a job at its next step, with a checkpoint. Raises NotFoundError, ConflictError."""
    return _change(job_id, _PAUSE)


def resume_job(job_id: str) -> dict[str, Any]:
    """Queue a paused job again. Raises NotFoundError, ConflictError."""
    return _change(job_id, _RESUME)


def list_events(job_id: str, *, after: str | None = None, limit: int = 100) -> Page:
    """Return a job's events, oldest first, after the event id `after`. Raises NotFoundError; ConfigError for an id of another form."""
    last = _event_number(after)
    with read() as session:
        _find(session, job_id)
        rows = session.scalars(select(Event).where(Event.job_id == job_id, Event.id > last).order_by(Event.id).limit(limit + 1)).all()
    return Page([_event_json(event) for event in rows[:limit]], len(rows) > limit)


def list_checkpoints(job_id: str) -> list[dict[str, Any]]:
    """Return the kept checkpoints of a job, each with its metrics and its model. Raises NotFoundError."""
    with read() as session:
        return list(_find(session, job_id).checkpoints)


def count_by_state() -> tuple[dict[str, int], float]:
    """Return jobs of all owners per state, and for how many seconds the oldest queued one has waited."""
    with read() as session:
        counts = session.execute(select(Job.state, func.count()).group_by(Job.state), execution_options=ALL_OWNERS).all()
        waited = select(db_now() - func.min(Job.created_at)).where(Job.state == "queued")
        oldest = session.scalar(waited, execution_options=ALL_OWNERS)
    return dict(counts), float(oldest or 0.0)


def as_json(job: Job, controls: Sequence[Job] = ()) -> dict[str, Any]:
    """Return a job with the fields of the API; `auto` values as resolved once it has started. Of `controls`, those of the job count."""
    spec = job.resolved or job.spec
    return {
        "id": job.id,
        "object": "job",
        "type": job.type,
        "status": job.state,
        "dataset": job.dataset_id,
        "base_model": spec.get("base_model"),
        **{part: spec.get(part, {}) for part in ("transfer", "hyperparameters", "features", "augmentation", "evaluation", "seed")},
        "search": spec.get("search"),
        "progress": job.progress,
        "metrics": job.metrics,
        "model": job.model_id,
        "result": job.result,
        "attempt": job.token,
        "worker": job.owner,
        "error": job.error,
        "control": job.control,
        "control_of": job.control_of,
        "controls": [{"name": row.control, "job": row.id, "status": row.state} for row in controls if row.control_of == job.id],
        **{moment: rfc3339(getattr(job, moment)) for moment in ("created_at", "started_at", "finished_at")},
        "name": job.name,
        "alias": job.alias,
        "metadata": job.meta,
    }


def _change(job_id: str, change: _Change) -> dict[str, Any]:
    with write() as session:
        job = _find(session, job_id, lock=True)
        target = change.targets.get(job.state)
        if target is None:
            raise ConflictError(f"job {job_id} is {job.state} and can't be {change.verb}", code=change.code)
        finished = db_now() if target in TERMINAL else None
        session.execute(update(Job).where(Job.id == job_id).values(state=target, not_before=None, published_at=None, finished_at=finished))
        add_status(session, job_id, target, f"asked to be {change.verb}")
        if target == "queued":
            send(session, job_id, job.queue)
        session.flush()
        settle(session, job_id)
        note(session, job_id)
        session.refresh(job)
        return as_json(job, _controls_of(session, [job_id]))


def _controls_of(session: Session, ids: Sequence[str]) -> Sequence[Job]:
    return session.scalars(select(Job).where(Job.control_of.in_(ids)).order_by(Job.id)).all()


def _find(session: Session, job_id: str, *, lock: bool = False) -> Job:
    query = select(Job).where(Job.id == job_id, Job.type.not_in(INTERNAL))
    job = session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise NotFoundError(f"there is no job {job_id!r}", code="job_not_found")
    return job


def _job_type(spec: JobSpec, modality: str | None) -> str:
    natural = "pretrain" if modality == "image" else "finetune"
    if spec.type == "finetune" and modality == "image":
        raise ConfigError(
            "a finetune makes a speech model and needs an audio dataset; this one holds images", param="type", hint="use pretrain"
        )
    return spec.type or natural


def _base_of(session: Session, spec: JobSpec) -> BaseModel | None:
    """Return what the job builds on, to begin with; nothing where the choice is open and weights are not wanted."""
    random = spec.base_model == AUTO and (spec.type == "pretrain" or spec.transfer.mode == "none")
    return None if spec.base_model is None or random else find_base_model(session, spec.base_model)


def _event_number(event_id: str | None) -> int:
    if event_id is None:
        return 0
    digits = event_id.removeprefix("evt_")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise ConfigError(f"{event_id[:50]!r} is no event id", param="after")
    return int(digits)


def _event_json(event: Event) -> dict[str, Any]:
    return {
        "id": f"evt_{event.id:012d}",
        "object": "event",
        "created_at": rfc3339(event.created_at),
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": event.data,
    }


def unfinished_using(session: Session, column: Any, value: str) -> Sequence[str]:
    """Return ids of jobs, whoever's they are, that have not ended and whose `column` is `value`: what they need must stay."""
    unfinished = select(Job.id).where(column == value, Job.state.in_(("queued", "paused", *ACTIVE)))
    return session.scalars(unfinished, execution_options=ALL_OWNERS).all()
