"""What one owner may have, and how much the service keeps in all. Who sees all has no quota: administrators set them.

Each check belongs into the transaction that makes what is counted. From its count to the end of that transaction nobody else counts, so
that two requests at once can't both have the last place. One turn serves all owners: what the service keeps in all is counted too, and
these transactions take milliseconds.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.database import Dataset, Job, Model, read
from worker.errors import QueueFullError, QuotaError
from worker.owners import ALL_OWNERS, current_view
from worker.settings import GIB, get_settings
from worker.turns import QUOTAS, take_turn

_QUEUE_RETRY_SECONDS = 30  # jobs end by themselves
_STORED_RETRY_SECONDS = 300  # what is stored goes when somebody deletes it


def check_queue(session: Session) -> None:
    """Raise QuotaError where as many jobs of the caller's owner wait as one may have, QueueFullError where the service keeps no more."""
    take_turn(session, QUOTAS)
    settings = get_settings()
    # Controls let others go first, so they take nobody's place.
    jobs = select(func.count()).select_from(Job).where(Job.control_of.is_(None))
    # A paused job keeps its place: else whoever pauses what is queued could queue as much again, and again.
    held = jobs.where(Job.state.in_(("queued", "paused")))
    if not current_view().sees_all and (own := session.scalar(held) or 0) >= settings.max_owner_jobs:
        raise QuotaError(
            f"{own} of your jobs are queued or paused; {settings.max_owner_jobs} may be",
            code="queue_quota", retry_after=_QUEUE_RETRY_SECONDS, hint="resume paused jobs, or cancel them",
        )  # fmt: skip
    queued = session.scalar(jobs.where(Job.state == "queued"), execution_options=ALL_OWNERS) or 0
    if queued >= settings.max_queued_jobs:
        raise QueueFullError(f"{queued} jobs are queued; the limit is {settings.max_queued_jobs}", retry_after=_QUEUE_RETRY_SECONDS)


def check_dataset(session: Session, size: int) -> None:
    """Raise QuotaError where the caller's owner may not have another dataset, of `size` bytes as it comes."""
    if not current_view().sees_all:
        take_turn(session, QUOTAS)
        _count_dataset(session, size)


def _count_dataset(session: Session, size: int) -> None:
    most = get_settings().max_owner_datasets
    count = session.scalar(select(func.count()).select_from(Dataset).where(Dataset.status != "deleted")) or 0
    if count >= most:
        raise QuotaError(
            f"you have {count} datasets; {most} may be had", code="dataset_quota", retry_after=_STORED_RETRY_SECONDS,
            hint="delete datasets that are no longer needed",
        )  # fmt: skip
    _count_storage(session, size)


def foresee_dataset(size: int) -> None:
    """Do as `check_dataset` does before gigabytes are received: what it lets through is checked again when it is there."""
    if not current_view().sees_all:
        with read() as session:
            _count_dataset(session, size)


def foresee_storage(size: int) -> None:
    """Do as `check_storage` does before gigabytes are received."""
    if not current_view().sees_all:
        with read() as session:
            _count_storage(session, size)


def check_storage(session: Session, size: int) -> None:
    """Raise QuotaError where `size` bytes more of datasets and models are more than the caller's owner may have."""
    if not current_view().sees_all:
        take_turn(session, QUOTAS)
        _count_storage(session, size)


def _count_storage(session: Session, size: int) -> None:
    most = get_settings().max_owner_bytes
    datasets = session.scalar(select(func.sum(Dataset.size_bytes)).where(Dataset.status != "deleted")) or 0
    models = session.scalar(select(func.sum(Model.size_bytes)).where(Model.deleted_at.is_(None))) or 0
    stored = int(datasets) + int(models)
    if stored + size > most:
        raise QuotaError(
            f"your datasets and models take {stored / GIB:.2f} GiB, with {size / GIB:.2f} GiB more they would take more than"
            f" {most / GIB:.2f} GiB",
            code="storage_quota", retry_after=_STORED_RETRY_SECONDS, hint="delete datasets and models that are no longer needed",
        )  # fmt: skip
