"""Celery's tasks: an id in, one call. Everything else is decided by the job's row."""

from celery import shared_task

from worker.queue import RUN_TASK
from worker.supervisor import supervise


@shared_task(name=RUN_TASK)  # type: ignore[untyped-decorator]
def run(job_id: str) -> None:
    """Take the job if it is still to be had, and see it to an end."""
    supervise(job_id)
