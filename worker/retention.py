"""Forgets what is older than an operator wants to keep: events, jobs, the audit log. Nothing is forgotten unless a setting says so."""

from sqlalchemy import ColumnElement, Select, delete, exists, or_, select
from sqlalchemy.orm import Session, aliased

from worker.database import Audit, Event, Job, Model, Webhook, db_now, write
from worker.settings import Settings
from worker.states import TERMINAL

_DAY = 24 * 3600.0
_ROWS = 1000  # that one sweep removes of a table at most: nobody waits long for the writer's place


def forget_old(settings: Settings) -> None:
    """Remove a bounded number of rows that are past their time."""
    if settings.keep_jobs_days is not None:
        with write() as session:
            _forget_jobs(session, settings.keep_jobs_days)
    if settings.keep_events_days is not None:
        with write() as session:
            # What a job went through stays as long as the job: readers of its events learn from it that it has ended.
            old = (
                select(Event.id)
                .join(Job, Job.id == Event.job_id)
                .where(*_ended(settings.keep_events_days), Event.type != "status")
                .limit(_ROWS)
            )
            session.execute(delete(Event).where(Event.id.in_(old)))
    if settings.keep_audit_days is not None:
        with write() as session:
            old = select(Audit.id).where(Audit.created_at < db_now() - settings.keep_audit_days * _DAY).limit(_ROWS)
            session.execute(delete(Audit).where(Audit.id.in_(old)))


def _forget_jobs(session: Session, days: int) -> None:
    jobs = session.scalars(_forgettable(days)).all()
    for table in (Event, Webhook):
        session.execute(delete(table).where(table.job_id.in_(jobs)))
    session.execute(delete(Job).where(Job.id.in_(jobs)))


def _forgettable(days: int) -> Select[str]:
    """Jobs that ended long ago and that nothing leads to: no model, no job that they are compared with, no message that is still due."""
    parent, control, model = aliased(Job), aliased(Job), aliased(Model)
    made_a_model = exists().where(Model.job_id == Job.id, Model.deleted_at.is_(None))
    compared = exists().where(parent.id == Job.control_of)  # the controls go after the job that they were started for
    in_use = or_(control.state.not_in(TERMINAL), exists().where(model.job_id == control.id, model.deleted_at.is_(None)))
    has_controls = exists().where(control.control_of == Job.id, in_use)
    due = exists().where(Webhook.job_id == Job.id, Webhook.status == "pending")
    return select(Job.id).where(*_ended(days), ~made_a_model, ~compared, ~has_controls, ~due).order_by(Job.id).limit(_ROWS)


def _ended(days: int) -> tuple[ColumnElement[bool], ...]:
    return Job.state.in_(TERMINAL), Job.finished_at < db_now() - days * _DAY
