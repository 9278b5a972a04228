"""What a job may build on: the model it names, or under `auto` the bundled backbone and the newest image models."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import bundled
from models.config import AUTO, ModelManifest
from models.errors import SynesthesiaError
from worker.database import Job, Model
from worker.model_files import fetch_model
from worker.orders import BaseOrder

_OWN_MODELS = 2  # that race beside the bundled backbone: each costs an eighth to three eighths of the training time


def base_orders(session: Session, job: Job) -> tuple[BaseOrder, ...]:
    """Return the bases of a training job, the most believed in first; their artifacts are fetched. Raises what `fetch_model` does."""
    spec = job.resolved or job.spec  # a job that goes on keeps to what it has begun with
    name, mode = spec.get("base_model"), spec["transfer"]["mode"]
    if name is None:
        return ()
    if name == AUTO:
        return _automatic(session, job, mode) if job.type == "finetune" and mode != "none" else ()
    if name == bundled.NAME:
        return (_bundled(),)
    if job.base_model_id is None:
        return (BaseOrder(name=name),)
    return (_own(session.get_one(Model, job.base_model_id), name),)


def _automatic(session: Session, job: Job, mode: str) -> tuple[BaseOrder, ...]:
    if mode != AUTO:
        return (_bundled(),)
    usable = Model.modality == "image", Model.deleted_at.is_(None), Model.owned_by == job.owned_by
    found = [_bundled()]
    for model in session.scalars(select(Model).where(*usable).order_by(Model.id.desc()).limit(_OWN_MODELS)):
        try:
            found.append(_own(model, model.id))
        except SynesthesiaError:  # its files are gone or out of reach: the job did not ask for it by name
            continue
    return tuple(found)


def _bundled() -> BaseOrder:
    return BaseOrder(name=bundled.NAME, lineage=bundled.bundled_backbone().lineage)


def _own(model: Model, name: str) -> BaseOrder:
    manifest = ModelManifest.model_validate(model.manifest, strict=False)
    return BaseOrder(name=name, model_id=model.id, directory=fetch_model(model), lineage=manifest.lineage)
