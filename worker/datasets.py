"""Datasets as the API sees them: take in an archive, look at what was found in it, delete. Reading it is worker/ingester.py's work.

Those that are drawn begin in worker/generated.py; once they have a row, all are alike.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from models.config import Modality
from models.errors import ConfigError
from worker.archives import inspect_archive, limits_of
from worker.audit import note
from worker.database import Dataset, Job, new_id, now, read, write
from worker.doubts import doubts_of
from worker.errors import ConflictError, GoneError, NotFoundError
from worker.idempotency import note_made
from worker.items import ITEMS_FILE, page_of_items
from worker.jobs import enqueue, unfinished_using
from worker.owners import ALL_OWNERS
from worker.pages import Page, rfc3339
from worker.quotas import check_dataset
from worker.ready import lock_ready_dataset
from worker.settings import get_settings
from worker.states import INGEST, INTERNAL
from worker.storage import get_storage

# What a dataset's summary shows; the rest of it (grey) is for the trainer.
_SUMMARY = ("labels", "items", "rejected", "splits", "groups", "per_label", "duration_seconds", "warnings")
_PROGRESS: dict[str, Any] = {"phase": "queued", "done": 0, "total": None, "fraction": 0.0, "eta_seconds": None}


def create_dataset(  # noqa: PLR0913 - by keyword, each with a name of the API
    *, upload: Path, sha256: str, size: int, upload_format: str, name: str, modality: Modality | None = None, parent: str | None = None
) -> dict[str, Any]:
    """Keep the archive at `upload` (it is moved away), queue the reading of it, and return the dataset as JSON.

    Raises DatasetError for an archive that breaks a rule in its directory, NotFoundError, GoneError and ConflictError for the parent,
    ConfigError where the parent is of another modality, QuotaError, StorageFullError and DependencyError.
    """
    inspect_archive(upload, upload_format, limits_of(get_settings()))
    dataset_id = new_id("ds")
    with read() as session:  # before the archive is moved
        _find_parent(session, parent, modality)
    blob = get_storage().publish_file(upload, f"uploads/{dataset_id}")
    try:
        with write() as session:
            extended = _find_parent(session, parent, modality)
            check_dataset(session, size)
            dataset = Dataset(
                id=dataset_id, name=name, modality=extended.modality if extended else modality, status="processing", parent=parent,
                upload=blob, upload_format=upload_format, sha256=sha256, size_bytes=size, blob=None, summary={}, created_at=now(session),
            )  # fmt: skip
            session.add(dataset)
            session.flush()
            enqueue(session, type=INGEST, queue="data", dataset_id=dataset_id, spec={})
            note(session, dataset_id)
            note_made(session, dataset_id)
            return as_json(dataset, None)
    except BaseException:
        get_storage().delete(blob)
        raise


def list_datasets(*, limit: int = 20, after: str | None = None, status: str | None = None, modality: str | None = None) -> Page:
    """Return datasets that are not deleted, newest first; `after` is the last id of the page before."""
    where: list[ColumnElement[bool]] = [Dataset.status != "deleted"]
    where += [Dataset.id < after] if after else []
    where += [Dataset.status == status] if status else []
    where += [Dataset.modality == modality] if modality else []
    with read() as session:
        rows = session.scalars(select(Dataset).where(*where).order_by(Dataset.id.desc()).limit(limit + 1)).all()
        progress = _progress_of(session, [dataset.id for dataset in rows])
    return Page([as_json(dataset, progress.get(dataset.id)) for dataset in rows[:limit]], len(rows) > limit)


def get_dataset(dataset_id: str) -> dict[str, Any]:
    """Return one dataset as JSON. Raises NotFoundError, GoneError."""
    with read() as session:
        dataset = _find(session, dataset_id)
        return as_json(dataset, _progress_of(session, [dataset_id]).get(dataset_id))


def list_items(
    dataset_id: str,
    *,
    split: str | None = None,
    label: str | None = None,
    status: str | None = None,
    limit: int = 20,
    after: str | None = None,
) -> Page:
    """Return the files of a ready dataset in the archive's order, the parent's first; those that its newest model doubts are suspect.

    Raises NotFoundError, GoneError, ConflictError (dataset_not_ready), ConfigError for an `after` of another form.
    """
    blob = ready_blob(dataset_id)
    with read() as session:
        doubts = doubts_of(session, dataset_id)
    path = get_storage().fetch_file(f"{blob}/{ITEMS_FILE}")
    return page_of_items(path, split=split, label=label, status=status, limit=limit, after=after, doubts=doubts)


def ready_blob(dataset_id: str) -> str:
    """Return where a ready dataset is stored. Raises NotFoundError, GoneError, ConflictError (dataset_not_ready)."""
    with read() as session:
        dataset = _find(session, dataset_id)
    if dataset.blob is None:
        raise ConflictError(f"dataset {dataset_id} is {dataset.status}; its files are listed once it is ready", code="dataset_not_ready")
    return dataset.blob


def delete_dataset(dataset_id: str) -> None:
    """Delete a dataset and its files. Raises NotFoundError, GoneError, and ConflictError while an unfinished job needs it."""
    with write() as session:
        dataset = _find(session, dataset_id, lock=True)
        users = unfinished_using(session, Job.dataset_id, dataset_id)
        extending = select(Dataset.id).where(Dataset.parent == dataset_id, Dataset.status == "processing")
        children = session.scalars(extending, execution_options=ALL_OWNERS).all()
        if users or children:
            user = f"dataset {children[0]} is being made from it" if children else f"job {users[0]} uses it"
            if users and dataset.status == "processing":
                user = "it is still being drawn" if dataset.generator else "its archive is still being read"
            raise ConflictError(f"dataset {dataset_id} can't be deleted: {user}", code="dataset_in_use")
        blobs = [blob for blob in (dataset.blob, dataset.upload) if blob is not None]
        dataset.status, dataset.blob, dataset.upload = "deleted", None, None
        note(session, dataset_id)
    for blob in blobs:
        get_storage().delete(blob)


def finish_ingest(session: Session, job: Job, result: dict[str, Any], blob: str) -> None:
    """Write what was read or drawn, in the caller's transaction: the dataset is ready."""
    session.execute(
        update(Dataset)
        .where(Dataset.id == job.dataset_id)
        .values(status="ready", modality=result["modality"], summary=result["summary"], blob=blob, error=None)
    )


def fail_ingest(session: Session, job: Job, error: dict[str, Any]) -> None:
    """Write why a dataset can't be had, in the caller's transaction. Its archive stays until it is deleted."""
    failure = {"code": error["code"], "message": error["message"], "param": error.get("param")}
    session.execute(update(Dataset).where(Dataset.id == job.dataset_id).values(status="failed", error=failure))


def drop_upload(dataset_id: str) -> None:
    """Remove the archive of a dataset that has been read. The row first: a stray file is better than a lost one."""
    with write() as session:
        dataset = session.get_one(Dataset, dataset_id, with_for_update=True)
        blob, dataset.upload = dataset.upload, None
    if blob is not None:
        get_storage().delete(blob)


def _find(session: Session, dataset_id: str, *, lock: bool = False) -> Dataset:
    query = select(Dataset).where(Dataset.id == dataset_id)
    dataset = session.scalar(query.with_for_update() if lock else query)
    if dataset is None:
        raise NotFoundError(f"there is no dataset {dataset_id!r}", code="dataset_not_found")
    if dataset.status == "deleted":
        raise GoneError(f"dataset {dataset_id} has been deleted", code="dataset_deleted")
    return dataset


def _find_parent(session: Session, parent: str | None, modality: Modality | None) -> Dataset | None:
    if parent is None:
        return None
    dataset = lock_ready_dataset(session, parent, param="parent")
    if modality not in (None, dataset.modality):
        raise ConfigError(f"dataset {parent} is of modality {dataset.modality}, not {modality}", code="modality_mismatch", param="modality")
    return dataset


def _progress_of(session: Session, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Return dataset → the progress of the job that makes it."""
    rows = session.execute(select(Job.dataset_id, Job.progress).where(Job.type.in_(INTERNAL), Job.dataset_id.in_(ids)))
    return {dataset_id: {name: progress.get(name, value) for name, value in _PROGRESS.items()} for dataset_id, progress in rows}


def as_json(dataset: Dataset, progress: dict[str, Any] | None) -> dict[str, Any]:
    """Return a dataset with the fields of the API; what is not known yet is null."""
    return {
        "id": dataset.id,
        "object": "dataset",
        "name": dataset.name,
        "modality": dataset.modality,
        "status": dataset.status,
        "parent": dataset.parent,
        "sha256": dataset.sha256,
        "size_bytes": dataset.size_bytes,
        "generator": dataset.generator,
        "created_at": rfc3339(dataset.created_at),
        "progress": progress or dict(_PROGRESS),
        **{name: dataset.summary.get(name) for name in _SUMMARY},
        "error": dataset.error,
    }
