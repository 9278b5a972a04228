"""Jobs as the API sees them: create, read, cancel, pause, resume. What their owners write is in worker/lease.py."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from models.config import JobSpec
from models.errors import ConfigError
from worker.database import Dataset, Event, Job, db_now, new_id, now, read, write
from worker.errors import ConflictError, GoneError, NotFoundError, QueueFullError
from worker.lease import ACTIVE, TERMINAL, add_status, send
from worker.pages import Page, rfc3339
from worker.registry import BaseModel, find_base_model
from worker.settings import get_settings

INTERNAL = "ingest"  # reading an archive is a job like any other, but shown as its dataset's progress
NO_PROGRESS = {"phase": "queued", "epoch": 0, "epochs": None, "step": 0, "steps": None, "fraction": 0.0, "eta_seconds": None}


@dataclasses.dataclass(frozen=True)
class _Change:
    """One wish of a user: where it leads from each state that allows it."""

    verb: str
    code: str
    targets: dict[str, str]


_CANCEL = _Change(
    "cancelled", "job_not_cancellable", {"queued": "cancelled", "paused": "cancelled", "running": "cancelling", "pausing": "cancelling"}
)
_PAUSE = _Change("paused", "job_not_pausable", {"queued": "paused", "running": "pausing"})
_RESUME = _Change("resumed", "job_not_resumable", {"paused": "queued"})


def create_job(spec: JobSpec) -> dict[str, Any]:
    """Check `spec` against what exists, queue it, and return the job as JSON.

    Raises NotFoundError and GoneError (dataset, model), ConflictError (dataset not ready), ConfigError (fields that do not fit
    together), QueueFullError.
    """
    with write() as session:
        dataset = _ready_dataset(session, spec.dataset)
        base = find_base_model(session, spec.base_model) if spec.base_model else None
        spec = spec.model_copy(update={"type": _job_type(spec, dataset.modality)})
        _check_transfer(spec, base)
        _check_capacity(session)
        job = enqueue(
            session,
            type=str(spec.type),
            queue="train",
            dataset_id=dataset.id,
            spec=spec.model_dump(mode="json"),
            base_model_id=base.model_id if base else None,
            name=spec.name,
            alias=spec.alias,
            meta=dict(spec.metadata),
        )
        return as_json(job)


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
        return as_json(_find(session, job_id))


def list_jobs(
    *,
    limit: int = 20,
    after: str | None = None,
    status: str | None = None,
    type: str | None = None,  # noqa: A002 - the field's name
    metadata: dict[str, str] | None = None,
) -> Page:
    """Return jobs, newest first; `after` is the last id of the page before."""
    where: list[ColumnElement[bool]] = [Job.type != INTERNAL]
    if after:
        where.append(Job.id < after)
    if status:
        where.append(Job.state == status)
    if type:
        where.append(Job.type == type)
    where += [Job.meta[key].as_string() == value for key, value in (metadata or {}).items()]
    with read() as session:
        rows = session.scalars(select(Job).where(*where).order_by(Job.id.desc()).limit(limit + 1)).all()
    return Page([as_json(job) for job in rows[:limit]], len(rows) > limit)


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
    """Return jobs per state, and for how many seconds the oldest queued one has waited."""
    with read() as session:
        counts = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
        oldest = session.scalar(select(db_now() - func.min(Job.created_at)).where(Job.state == "queued"))
    return dict(counts), float(oldest or 0.0)


def as_json(job: Job) -> dict[str, Any]:
    """Return a job with the fields of api.md; `auto` values as resolved once it has started."""
    spec = job.resolved or job.spec
    return {
        "id": job.id,
        "object": "job",
        "type": job.type,
        "status": job.state,
        "dataset": job.dataset_id,
        "base_model": job.spec.get("base_model"),
        **{part: spec.get(part) for part in ("transfer", "hyperparameters", "features", "augmentation", "seed")},
        "progress": job.progress,
        "metrics": job.metrics,
        "model": job.model_id,
        "attempt": job.token,
        "worker": job.owner,
        "error": job.error,
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
        session.refresh(job)
        return as_json(job)


def _find(session: Session, job_id: str, *, lock: bool = False) -> Job:
    query = select(Job).where(Job.id == job_id, Job.type != INTERNAL)
    job = session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise NotFoundError(f"there is no job {job_id!r}", code="job_not_found")
    return job


def _ready_dataset(session: Session, dataset_id: str) -> Dataset:
    # FOR SHARE on Postgres: a deletion that commits between this check and our commit would leave a job without its data.
    dataset = session.scalar(select(Dataset).where(Dataset.id == dataset_id).with_for_update(read=True))
    if dataset is None:
        raise NotFoundError(f"there is no dataset {dataset_id!r}", code="dataset_not_found", param="dataset")
    if dataset.status == "deleted":
        raise GoneError(f"dataset {dataset_id} has been deleted", code="dataset_deleted", param="dataset")
    if dataset.status != "ready":
        raise ConflictError(
            f"dataset {dataset_id} is {dataset.status}, a job needs a ready one", code="dataset_not_ready", param="dataset",
            hint=f"GET /datasets/{dataset_id} tells when it is ready, or why it failed",
        )  # fmt: skip
    return dataset


def _job_type(spec: JobSpec, modality: str | None) -> str:
    natural = "pretrain" if modality == "image" else "finetune"
    if spec.type == "finetune" and modality == "image":
        raise ConfigError(
            "a finetune makes a speech model and needs an audio dataset; this one holds images", param="type", hint="use pretrain"
        )
    return spec.type or natural


def _check_transfer(spec: JobSpec, base: BaseModel | None) -> None:
    """Refuse at once what the trainer would refuse later."""
    transfer = spec.transfer
    # Whoever names a layer to stop at wants a part, in mode auto too.
    carries = transfer.mode in ("full", "partial") or (transfer.mode == "auto" and transfer.until is not None)
    if carries and (base is None or not base.has_weights):
        raise ConfigError(
            f"transfer.mode {transfer.mode} carries layers over, but base_model names no trained network", param="transfer.mode",
            hint="name a model of yours or a timm model as base_model, or use mode none",
        )  # fmt: skip
    if transfer.freeze == "shared" and (transfer.mode == "none" or base is None or not base.has_weights):
        raise ConfigError("transfer.freeze shared needs layers that are carried over", param="transfer.freeze")
    if transfer.until is None:
        return
    if transfer.mode not in ("partial", "auto"):
        raise ConfigError("transfer.until belongs to mode partial or auto", param="transfer.until")
    if base is not None and base.layers and transfer.until not in base.layers:
        raise ConfigError(f"{spec.base_model} has no layer {transfer.until!r}; it has {', '.join(base.layers)}", param="transfer.until")


def _check_capacity(session: Session) -> None:
    limit = get_settings().max_queued_jobs
    queued = session.scalar(select(func.count()).select_from(Job).where(Job.state == "queued")) or 0
    if queued >= limit:
        raise QueueFullError(f"{queued} jobs are queued; the limit is {limit}", retry_after=30)


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
    """Return ids of jobs that have not ended and whose `column` is `value`: what they need must stay."""
    return session.scalars(select(Job.id).where(column == value, Job.state.in_(("queued", "paused", *ACTIVE)))).all()
