"""What each type of job runs, and what its end means. One entry a type; the supervisor knows none of them by name."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy.orm import Session

from models.config import SPLITS, JobSpec, Modality, ModelManifest
from models.dataset import PackedDataset
from models.formula.generator import FormulaConfig
from models.transferability import TransferabilitySpec
from models.verdict import Answers, answers_of
from worker import datasets
from worker.bases import base_orders
from worker.candidates import JOB_TYPE as TRANSFERABILITY
from worker.candidates import candidate_orders
from worker.controls import begin as begin_controls
from worker.database import Dataset, Job, new_id, read, write
from worker.errors import GoneError
from worker.judgement import settle
from worker.lease import add_event, add_status, close
from worker.orders import GenerateOrder, IngestOrder, RankingOrder, TrainingOrder
from worker.owners import View, seen_by
from worker.previews import preview_of, supersede
from worker.promotion import kept_refusal, refusal
from worker.registry import add_model
from worker.settings import Settings, get_settings
from worker.states import GENERATE, INGEST
from worker.storage import get_storage


@dataclass(frozen=True)
class Start:
    """How to start a child: its command line, and what it reads from standard input."""

    command: list[str]
    order: bytes = b""


def _anything(spec: dict[str, Any]) -> object:
    return spec


@dataclass(frozen=True)
class Work:
    """One type of job.

    `succeed` publishes what the child left and closes the job; `lose` undoes what failing leaves elsewhere. `parse` raises pydantic's
    ValidationError for a spec that this version does not understand.
    """

    start: Callable[[Job, Path], Start]
    succeed: Callable[[Job, Path, dict[str, Any]], bool]
    lose: Callable[[Session, Job, dict[str, Any]], None]
    parse: Callable[[dict[str, Any]], object] = _anything


def job_folder(job_id: str) -> Path:
    """Return the local folder of one job: checkpoints, prepared items, log. It outlives each start."""
    folder = get_settings().scratch_dir / "jobs" / job_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _parse_training(spec: dict[str, Any]) -> JobSpec:
    return JobSpec.model_validate(spec, strict=False)


def _parse_ranking(spec: dict[str, Any]) -> TransferabilitySpec:
    return TransferabilitySpec.model_validate(spec, strict=False)


def _start_training(job: Job, folder: Path) -> Start:
    return Start([sys.executable, "-m", "worker.trainer"], training_order(job, folder).model_dump_json().encode())


def training_order(job: Job, folder: Path) -> TrainingOrder:
    """Return what a trainer of `job` is told, with all that it reads fetched. Raises GoneError, StorageError.

    The row need not be stored: a quote asks with one that never is.
    """
    settings = get_settings()
    with read() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
        bases = base_orders(session, job)
    if dataset.blob is None:
        raise GoneError(f"dataset {dataset.id} has been deleted", code="dataset_deleted", param="dataset")
    return TrainingOrder(
        job_id=job.id,
        token=job.token,
        parent_pid=os.getpid(),
        spec=_parse_training(job.spec),
        resolved=_parse_training(job.resolved) if job.resolved else None,
        dataset_directory=get_storage().fetch_directory(dataset.blob),
        dataset_sha256=dataset.sha256,
        bases=bases,
        model_id=new_id("mdl"),
        preview_model_id=None if job.resolved or job.checkpoints else new_id("mdl"),
        folder=folder,
        device=settings.device,
        threads=settings.threads,
        checkpoint_seconds=settings.checkpoint_seconds,
        timm_dir=settings.timm_dir,
        offline=settings.hf_hub_offline,
    )


def _publish_model(job: Job, folder: Path, result: dict[str, Any]) -> bool:
    """Publish the artifact, then name it in one fenced transaction. False when the job has meanwhile been taken over."""
    source = folder / f"start-{job.token}"
    model_id = str(result["model_id"])
    manifest = ModelManifest.model_validate(result["manifest"], strict=False)
    refused = refusal(source, manifest)
    size = sum(path.stat().st_size for path in source.iterdir())
    blob = get_storage().publish_directory(source, f"artifacts/{model_id}")
    answers = _answers(job, result.get("predictions"))
    with write() as session:
        state = "cancelled" if result["cancelled"] else "succeeded"
        checkpoint = {"id": f"ckpt_{model_id[4:]}", "object": "checkpoint", "model": model_id, **result["checkpoint"]}
        progress = {**result["progress"], "phase": "done", "eta_seconds": 0.0}
        preview = preview_of(session, job.id)
        kept = [preview, checkpoint] if preview else [checkpoint]
        if not close(session, job.id, job.token, state, model_id=model_id, checkpoints=kept, progress=progress, metrics=result["metrics"]):
            session.rollback()
            get_storage().delete(blob)
            return False
        worth = begin_controls(session, job.id, manifest, result["metrics"]) if state == "succeeded" else None
        evaluation = result["evaluation"] | kept_refusal(refused) | ({"transfer": worth} if worth else {})
        add_model(
            session, manifest=manifest, evaluation=evaluation, predictions=answers, blob=blob, size_bytes=size, model_id=model_id,
            owned_by=job.owned_by, name=job.name, job_id=job.id, dataset_id=job.dataset_id,
            base_model=manifest.training.base_model if manifest.training else None,
        )  # fmt: skip
        add_event(session, job.id, "checkpoint", f"model {model_id} is ready", data=checkpoint)
        if state == "succeeded" and job.control_of is None:  # a control's model has no name unless the verdict gives it one
            supersede(session, job, preview, model_id, result["metrics"], refused=refused)
        add_status(session, job.id, state, f"{state} with model {model_id}", model=model_id, metrics=result["metrics"])
        settle(session, job.id)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _answers(job: Job, predictions: dict[str, list[int]] | None) -> Answers | None:
    """Return `predictions`, label numbers of the items of each split, beside the truth: what a transfer is judged by."""
    with read() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
    if job.type != "finetune" or predictions is None or dataset.blob is None:
        return None
    packed = PackedDataset.open(get_storage().fetch_directory(dataset.blob))
    return answers_of(predictions, {split: packed.indices(split) for split in SPLITS}, packed.item_labels, packed.item_groups)


def _start_ingest(job: Job, folder: Path) -> Start:
    with read() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
        parent = session.get_one(Dataset, dataset.parent) if dataset.parent else None
    if dataset.upload is None or (parent is not None and parent.blob is None):
        raise GoneError("the archive or the parent dataset has been deleted", code="dataset_deleted")
    _clear_starts(folder)
    archive = get_storage().fetch_file(dataset.upload)
    extended = get_storage().fetch_directory(parent.blob) if parent is not None and parent.blob is not None else None
    order = _ingest_order(job, folder, get_settings(), dataset, archive, extended)
    return Start([sys.executable, "-m", "worker.ingester"], order.model_dump_json().encode())


def _clear_starts(folder: Path) -> None:
    """Remove what starts that were killed have left half made."""
    for left in folder.glob("start-*"):
        shutil.rmtree(left, ignore_errors=True)


def _start_generating(job: Job, folder: Path) -> Start:
    _clear_starts(folder)
    order = GenerateOrder(
        job_id=job.id,
        token=job.token,
        parent_pid=os.getpid(),
        folder=folder,
        processes=get_settings().threads,
        config=FormulaConfig.model_validate(job.spec),
    )
    return Start([sys.executable, "-m", "worker.generator"], order.model_dump_json().encode())


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


def _start_ranking(job: Job, _folder: Path) -> Start:
    settings = get_settings()
    with read() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
    if dataset.blob is None:
        raise GoneError(f"dataset {dataset.id} has been deleted", code="dataset_deleted", param="dataset")
    spec = _parse_ranking(job.spec)
    with seen_by(View(job.owned_by, sees_all=False)):
        candidates, skipped = candidate_orders(spec)
    order = RankingOrder(
        job_id=job.id,
        token=job.token,
        parent_pid=os.getpid(),
        spec=spec,
        dataset_directory=get_storage().fetch_directory(dataset.blob),
        dataset_blob=dataset.blob,
        candidates=candidates,
        skipped=skipped,
        embeddings=settings.embeddings_dir,
        device=settings.device,
        threads=settings.threads,
        timm_dir=settings.timm_dir,
        offline=settings.hf_hub_offline,
    )
    return Start([sys.executable, "-m", "worker.ranker"], order.model_dump_json().encode())


def _keep_ranking(job: Job, folder: Path, result: dict[str, Any]) -> bool:
    """Write the ranking into the job's row. False when the job has meanwhile been taken over."""
    with write() as session:
        if not close(session, job.id, job.token, "succeeded", result=result["result"], progress=result["progress"]):
            session.rollback()
            return False
        add_status(session, job.id, "succeeded", f"{len(result['result']['candidates'])} sources are ranked")
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _nothing_else(session: Session, job: Job, error: dict[str, Any]) -> None:
    """A failed ranking leaves nothing beyond its job."""


def _lose_training(session: Session, job: Job, _error: dict[str, Any]) -> None:
    """A failed training leaves nothing beyond its job, but where it is a control, somebody waits for its end."""
    settle(session, job.id)


_TRAINING = Work(_start_training, _publish_model, _lose_training, _parse_training)
WORK: dict[str, Work] = {
    "pretrain": _TRAINING,
    "finetune": _TRAINING,
    TRANSFERABILITY: Work(_start_ranking, _keep_ranking, _nothing_else, _parse_ranking),
    INGEST: Work(_start_ingest, _publish_dataset, datasets.fail_ingest),
    GENERATE: Work(_start_generating, _publish_dataset, datasets.fail_ingest, FormulaConfig.model_validate),
}
