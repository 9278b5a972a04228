"""When the last control of a job has ended: the verdict, written where people look for it, and aliases moved where it is a bad one."""

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.verdict import REPEAT, Arm, Comparison, judge
from worker.aliases import move_aliases
from worker.database import Event, Job, Model
from worker.lease import add_event
from worker.promotion import REFUSAL
from worker.states import TERMINAL

AUTO_SHARE = 0.25  # of a job's training time, which controls `auto` may cost
_log = structlog.get_logger(__name__)


def settle(session: Session, job_id: str) -> None:
    """Judge the job that `job_id` is a control of, where all its controls have ended; in the transaction that ends the control.

    To be called whenever a job may have ended; does nothing for any other job.
    """
    found = session.execute(select(Job.control_of, Job.state).where(Job.id == job_id)).one()
    if found.control_of is None or found.state not in TERMINAL:
        return
    # Locked, so that of two controls that end at once in two transactions the later one sees both.
    parent = session.get_one(Job, found.control_of, with_for_update=True, populate_existing=True)
    controls = session.scalars(
        select(Job).where(Job.control_of == parent.id).order_by(Job.id).execution_options(populate_existing=True)
    ).all()
    if any(control.state not in TERMINAL for control in controls):
        return
    document = judge(_comparison(session, parent, controls))
    _write(session, parent, document)
    if document["verdict"] == "negative" and parent.spec["transfer"]["mode"] == "auto":
        _turn_back(session, parent, document)
    _log.info("transfer_judged", job_id=parent.id, verdict=document["verdict"], gain=document["gain"])


def _comparison(session: Session, parent: Job, controls: Sequence[Job]) -> Comparison:
    history = session.scalars(select(Event.data).where(Event.job_id == parent.id, Event.type == "metrics").order_by(Event.id)).all()
    spec = parent.resolved or parent.spec
    share = AUTO_SHARE if parent.spec["evaluation"]["controls"] == "auto" else 1.0
    return Comparison(
        source=str(spec["base_model"]),
        judged=_arm(session, parent, "", 1.0),
        controls=[_arm(session, control, str(control.control), 1.0 if control.control == REPEAT else share) for control in controls],
        history=history,
    )


def _arm(session: Session, job: Job, name: str, share: float) -> Arm:
    """Return a job as one side of the comparison: without answers unless it came to its proper end."""
    answers = session.scalar(select(Model.predictions).where(Model.id == job.model_id)) if job.state == "succeeded" else None
    seed = int((job.resolved or job.spec)["seed"])
    return Arm(name, seed, job.id, job.state, job.model_id, answers, job.metrics, share)


def _write(session: Session, parent: Job, document: dict[str, Any]) -> None:
    evaluation = session.scalar(select(Model.evaluation).where(Model.id == parent.model_id)) or {}
    session.execute(update(Model).where(Model.id == parent.model_id).values(evaluation=evaluation | {"transfer": document}))
    level = "warning" if document["verdict"] == "negative" else "info"
    add_event(session, parent.id, "message", document["sentence"], level=level, data={"transfer": document})


def _turn_back(session: Session, parent: Job, document: dict[str, Any]) -> None:
    """Let what points at the judged model point at the better control: `auto` was asked to find the best, and now more is known."""
    better = _better(session, document)
    if parent.model_id is None or better is None:
        return
    names = move_aliases(session, parent.model_id, better)
    if names:
        message = f"{', '.join(names)} now point{'s' * (len(names) == 1)} at model {better}, which did better"
        add_event(session, parent.id, "message", message, level="warning", data={"aliases": names, "model": better})


def _better(session: Session, document: dict[str, Any]) -> str | None:
    """Return the model of the control that is right most often on validation items, of those that beat the judged one.

    Test items say that a control is better, but not which is the best: who chooses by them can't believe their figures any more. One
    that did not answer as it should when it was published is left out.
    """
    beaten = float(document["accuracy"])
    ids = [row["model"] for row in document["controls"] if row["name"] != REPEAT and (row["accuracy"] or 0.0) > beaten]
    models = session.scalars(select(Model).where(Model.id.in_(ids), Model.deleted_at.is_(None)).order_by(Model.id)).all()
    named = [model for model in models if REFUSAL not in model.evaluation]
    best = max(named, key=lambda model: float(model.manifest["metrics"].get("validation_accuracy", 0.0)), default=None)
    return best.id if best else None
