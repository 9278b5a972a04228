"""Datasets as others need them: ready, and held so until the caller's transaction is over."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.database import Dataset
from worker.errors import ConflictError, GoneError, NotFoundError


def lock_ready_dataset(session: Session, dataset_id: str, *, param: str = "dataset") -> Dataset:
    """Return a dataset that may be used; `param` is the field that named it. Raises NotFoundError, GoneError, ConflictError."""
    # FOR SHARE on Postgres: a deletion that commits between this check and our commit would leave a job without its data.
    dataset = session.scalar(select(Dataset).where(Dataset.id == dataset_id).with_for_update(read=True))
    if dataset is None:
        raise NotFoundError(f"there is no dataset {dataset_id!r}", code="dataset_not_found", param=param)
    if dataset.status == "deleted":
        raise GoneError(f"dataset {dataset_id} has been deleted", code="dataset_deleted", param=param)
    if dataset.status != "ready":
        raise ConflictError(
            f"dataset {dataset_id} is {dataset.status}, a ready one is needed", code="dataset_not_ready", param=param,
            hint=f"GET /datasets/{dataset_id} tells when it is ready, or why it failed",
        )  # fmt: skip
    return dataset
