"""What each type of job runs, and what its end means. One entry a type; the supervisor knows none of them by name."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy.orm import Session

from models.config import JobSpec, Modality, ModelManifest
from worker import datasets
from worker.database import Dataset, Job, Model, new_id, read, write
from worker.errors import GoneError
from worker.lease import add_event, add_status, close
from worker.orders import BaseOrder, IngestOrder, TrainingOrder
from worker.registry import add_model, point_alias, take_default
from worker.settings import Settings, get_settings
from worker.storage import get_storage


@dataclass(frozen=True)
class Start:
    """How to start a child: its command line, and what it reads from standard input."""

    command: list[str]
    order: bytes = b""


@dataclass(frozen=True)
class Work:
    """One type of job. `succeed` publishes what the child left and closes the job; `lose` undoes what failing leaves elsewhere."""

    start: Callable[[Job, Path], Start]
    succeed: Callable[[Job, Path, dict[str, Any]], bool]
    lose: Callable[[Session, Job, dict[str, Any]], None]


def job_folder(job_id: str) -> Path:
    """Return the local folder of one job: checkpoints, prepared items, log. It outlives each start."""
    folder = get_settings().scratch_dir / "jobs" / job_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _start_training(job: Job, folder: Path) -> Start:
    settings = get_settings()
    with read() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
        base = _base_order(session, job)
    if dataset.blob is None:
        raise GoneError(f"dataset {dataset.id} has been deleted", code="dataset_deleted", param="dataset")
    order = _training_order(job, folder, settings, dataset, get_storage().fetch_directory(dataset.blob), base)
    return Start([sys.executable, "-m", "worker.trainer"], order.model_dump_json().encode())


def _training_order(job: Job, folder: Path, settings: Settings, dataset: Dataset, directory: Path, base: BaseOrder | None) -> TrainingOrder:
    return TrainingOrder(
        job_id=job.id,
        token=job.token,
        parent_pid=os.getpid(),
        spec=JobSpec.model_validate(job.spec, strict=False),
        resolved=JobSpec.model_validate(job.resolved, strict=False) if job.resolved else None,
        dataset_directory=directory,
        dataset_sha256=dataset.sha256,
        base=base,
        model_id=new_id("mdl"),
        folder=folder,
        device=settings.device,
        threads=settings.threads,
        checkpoint_seconds=settings.checkpoint_seconds,
        timm_dir=settings.timm_dir,
        offline=settings.hf_hub_offline,
    )


def _base_order(session: Session, job: Job) -> BaseOrder | None:
    name = job.spec.get("base_model")
    if name is None:
        return None
    if job.base_model_id is None:
        return BaseOrder(name=name)
    model = session.get_one(Model, job.base_model_id)
    manifest = ModelManifest.model_validate(model.manifest, strict=False)
    return BaseOrder(name=name, model_id=model.id, directory=get_storage().fetch_directory(model.blob), lineage=manifest.lineage)


def _publish_model(job: Job, folder: Path, result: dict[str, Any]) -> bool:
    """Publish the artifact, then name it in one fenced transaction. False when the job has meanwhile been taken over."""
    source = folder / f"start-{job.token}"
    model_id = str(result["model_id"])
    size = sum(path.stat().st_size for path in source.iterdir())
    blob = get_storage().publish_directory(source, f"artifacts/{model_id}")
    manifest = ModelManifest.model_validate(result["manifest"], strict=False)
    with write() as session:
        state = "cancelled" if result["cancelled"] else "succeeded"
        checkpoint = {"id": f"ckpt_{model_id[4:]}", "object": "checkpoint", "model": model_id, **result["checkpoint"]}
        progress = {**result["progress"], "phase": "done", "eta_seconds": 0.0}
        if not close(
            session, job.id, job.token, state, model_id=model_id, checkpoints=[checkpoint], progress=progress, metrics=result["metrics"]
        ):
            session.rollback()
            get_storage().delete(blob)
            return False
        add_model(
            session, manifest=manifest, evaluation=result["evaluation"], blob=blob, size_bytes=size, model_id=model_id,
            name=job.name, job_id=job.id, dataset_id=job.dataset_id, base_model=job.spec.get("base_model"),
        )  # fmt: skip
        add_event(session, job.id, "checkpoint", f"model {model_id} is ready", data=checkpoint)
        if state == "succeeded":
            _name_model(session, job, model_id, manifest.network.modality)
        add_status(session, job.id, state, f"{state} with model {model_id}", model=model_id, metrics=result["metrics"])
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _name_model(session: Session, job: Job, model_id: str, modality: str) -> None:
    if job.alias:
        point_alias(session, job.alias, model_id)
    if job.type == "finetune" and modality == "audio":
        take_default(session, model_id)


def _start_ingest(job: Job, folder: Path) -> Start:
    with read() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
        parent = session.get_one(Dataset, dataset.parent) if dataset.parent else None
    if dataset.upload is None or (parent is not None and parent.blob is None):
        raise GoneError("the archive or the parent dataset has been deleted", code="dataset_deleted")
    for left in folder.glob("start-*"):  # by a start that was killed
        shutil.rmtree(left, ignore_errors=True)
    archive = get_storage().fetch_file(dataset.upload)
    extended = get_storage().fetch_directory(parent.blob) if parent is not None and parent.blob is not None else None
    order = _ingest_order(job, folder, get_settings(), dataset, archive, extended)
    return Start([sys.executable, "-m", "worker.ingester"], order.model_dump_json().encode())


def _ingest_order(job: Job, folder: Path, settings: Settings, dataset: Dataset, archive: Path, parent: Path | None) -> IngestOrder:
    limits = {name: getattr(settings, name) for name in IngestOrder.model_fields if name.startswith("max_")}
    return IngestOrder(
        job_id=job.id,
        token=job.token,
        parent_pid=os.getpid(),
        folder=folder,
        archive=archive,
        upload_format=dataset.upload_format,
        modality=cast("Modality | None", dataset.modality),  # the column holds nothing else
        parent_directory=parent,
        sample_rate=settings.stored_sample_rate,
        image_side=settings.stored_image_side,
        processes=settings.threads,
        **limits,
    )


def _publish_dataset(job: Job, folder: Path, result: dict[str, Any]) -> bool:
    blob = get_storage().publish_directory(folder / f"start-{job.token}", f"datasets/{job.dataset_id}-{job.token}")
    with write() as session:
        if not close(session, job.id, job.token, "succeeded", progress=result.get("progress", {})):
            session.rollback()
            get_storage().delete(blob)
            return False
        datasets.finish_ingest(session, job, result, blob)
        add_status(session, job.id, "succeeded", f"dataset {job.dataset_id} is ready")
    datasets.drop_upload(job.dataset_id)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _nothing_else(session: Session, job: Job, error: dict[str, Any]) -> None:
    """A failed training leaves nothing beyond its job."""


_TRAINING = Work(_start_training, _publish_model, _nothing_else)
WORK: dict[str, Work] = {
    "pretrain": _TRAINING,
    "finetune": _TRAINING,
    "ingest": Work(_start_ingest, _publish_dataset, datasets.fail_ingest),
}
