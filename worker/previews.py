"""The first answer of a job, published while the job goes on, and what becomes of it at the end."""

from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.config import ModelManifest
from worker.aliases import move_aliases, point_alias, take_default
from worker.database import Job, Model, write
from worker.lease import add_event, hold
from worker.orders import preview_folder
from worker.promotion import REFUSAL, kept_refusal, refusal
from worker.registry import add_model
from worker.storage import get_storage


def publish_preview(job: Job, folder: Path, report: dict[str, Any]) -> None:
    """Make a model of the first answer and let the job's alias point at it, in one fenced transaction."""
    source, model_id = preview_folder(folder, job.token), str(report["model_id"])
    manifest = ModelManifest.model_validate(report["manifest"], strict=False)
    refused = refusal(source, manifest)
    size = sum(path.stat().st_size for path in source.iterdir())
    blob = get_storage().publish_directory(source, f"artifacts/{model_id}")
    checkpoint = {
        "id": f"ckpt_{model_id[4:]}", "object": "checkpoint", "model": model_id, "step": 0, "epoch": 0, "metrics": report["metrics"],
    }  # fmt: skip
    with write() as session:
        if not hold(session, job.id, job.token, checkpoints=[checkpoint]):
            session.rollback()
            get_storage().delete(blob)
            return
        add_model(
            session, manifest=manifest, evaluation=report["evaluation"] | kept_refusal(refused), blob=blob, size_bytes=size,
            model_id=model_id, owned_by=job.owned_by, name=job.name, job_id=job.id, dataset_id=job.dataset_id,
            base_model=manifest.transfer.base_model,
        )  # fmt: skip
        add_event(session, job.id, "checkpoint", f"model {model_id} gives a first answer; training goes on", data=checkpoint)
        name_model(session, job, model_id, refused)


def name_model(session: Session, job: Job, model_id: str, refused: str | None) -> None:
    """Let the job's alias, and `default` where it is free, point at a speech model of the job; not where it is `refused`, and why."""
    if refused:
        _tell_refusal(session, job, model_id, refused)
        return
    if job.alias:
        point_alias(session, job.alias, model_id, owner=job.owned_by)
    if job.type == "finetune":
        take_default(session, model_id, owner=job.owned_by)


def preview_of(session: Session, job_id: str) -> dict[str, Any] | None:
    """Return the checkpoint that is a job's first answer, None where it gave none."""
    checkpoints = session.scalar(select(Job.checkpoints).where(Job.id == job_id)) or []
    return next((checkpoint for checkpoint in checkpoints if checkpoint["step"] == 0), None)


def supersede(
    session: Session, job: Job, preview: dict[str, Any] | None, model_id: str, metrics: dict[str, Any], *, refused: str | None = None
) -> None:
    """Name what training made, in place of the first answer, unless that one hears more validation clips rightly.

    `refused`: why the model may not be named.
    """
    if preview is None or refused or _was_refused(session, preview["model"]):
        name_model(session, job, model_id, refused)
        return
    before, after = preview["metrics"].get("validation_accuracy"), metrics.get("validation_accuracy")
    if before is not None and after is not None and before > after:
        message = f"the first answer stays: it hears {before:.1%} of the validation clips rightly, model {model_id} {after:.1%}"
        add_event(session, job.id, "message", message, level="warning", data={"model": preview["model"]})
        return
    move_aliases(session, preview["model"], model_id)


def _tell_refusal(session: Session, job: Job, model_id: str, refused: str) -> None:
    message = f"no name points at model {model_id}: {refused}"
    add_event(session, job.id, "message", message[:1000], level="warning", data={"model": model_id, "code": "promotion_refused"})


def _was_refused(session: Session, model_id: str) -> bool:
    """Whether a model was published without a name, so that there is none to take over from it."""
    return REFUSAL in (session.scalar(select(Model.evaluation).where(Model.id == model_id)) or {})
