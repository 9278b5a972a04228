"""Sources that a dataset's owner may want ranked: queueing the job, and what is a candidate when it starts."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import bundled
from models.catalog import architectures
from models.config import AUTO, ModelManifest
from models.errors import ConfigError, SynesthesiaError
from models.transferability import Kind, TransferabilitySpec
from worker.audit import note
from worker.database import Dataset, Model, read, write
from worker.errors import NotFoundError
from worker.idempotency import note_made
from worker.jobs import as_json, enqueue
from worker.model_files import fetch_model
from worker.orders import CandidateOrder, SkippedCandidate
from worker.quotas import check_queue
from worker.ready import lock_ready_dataset
from worker.registry import BaseModel, find_base_model

JOB_TYPE = "transferability"
_MOST_OWN = 10  # models of each modality among the default candidates, the newest ones
_LOOKED_AT = 100  # of which so many are looked at for some that have not been trained on the dataset itself


def create_ranking(spec: TransferabilitySpec) -> dict[str, Any]:
    """Check `spec` against what exists, queue it, and return the job as JSON.

    Raises NotFoundError and GoneError (dataset, candidates), ConflictError (dataset not ready), ConfigError (a dataset of pictures,
    `auto` as a candidate), QueueFullError, QuotaError.
    """
    with write() as session:
        dataset = lock_ready_dataset(session, spec.dataset)
        if dataset.modality != "audio":
            raise ConfigError(
                "sources are ranked for an audio dataset; this one holds images",
                param="dataset",
                hint="images are what sources are made from",
            )
        for name in spec.candidates or ():
            _find(session, name)
        check_queue(session)
        job = enqueue(
            session, type=JOB_TYPE, queue="train", dataset_id=dataset.id, spec=spec.model_dump(mode="json"),
            name=spec.name, meta=dict(spec.metadata), owned_by=dataset.owned_by,
        )  # fmt: skip
        note(session, job.id)
        note_made(session, job.id)
        return as_json(job)


def candidate_orders(spec: TransferabilitySpec) -> tuple[tuple[CandidateOrder, ...], tuple[SkippedCandidate, ...]]:
    """Return what a ranking that starts now judges, and what was asked for and is no longer there.

    Without names: bundled, every architecture, and the newest own models of either modality that have not heard the dataset's clips.
    """
    with read() as session:
        dataset = session.get_one(Dataset, spec.dataset)
        names = spec.candidates or _default_names(session, dataset)
    found: dict[tuple[Kind, str], CandidateOrder] = {}
    skipped = []
    for name in names:
        try:
            key, order = _order(spec.dataset, name)
        except SynesthesiaError as error:  # deleted since it was asked for, or its files are out of reach
            skipped.append(SkippedCandidate(candidate=name, code=error.code, message=error.message))
            continue
        found.setdefault(key, order)  # an alias and its model are one
    return tuple(found.values()), tuple(skipped)


def _find(session: Session, name: str) -> BaseModel:
    if name == AUTO:
        raise ConfigError("auto chooses among sources and is none itself", param="candidates", hint="leave candidates out to rank all")
    try:
        return find_base_model(session, name)
    except NotFoundError as error:
        raise NotFoundError(
            f"candidate {name!r} is no model, alias or architecture", code=error.code, param="candidates", hint=error.hint
        ) from error


def _order(dataset_id: str, name: str) -> tuple[tuple[Kind, str], CandidateOrder]:
    """Return what makes a candidate one of its kind, and the candidate, its artifact fetched. Raises SynesthesiaError where it is gone."""
    with read() as session:
        base = _find(session, name)
        model = session.get_one(Model, base.model_id) if base.model_id is not None else None
        seen = model is not None and _has_seen(session, model, session.get_one(Dataset, dataset_id))
    if model is None:
        kind: Kind = "random" if not base.has_weights else "bundled" if name == bundled.NAME else "timm"
        sha256 = bundled.bundled_backbone().sha256 if kind == "bundled" else ""
        return (kind, name), CandidateOrder(name=name, kind=kind, architecture=base.architecture, sha256=sha256)
    order = CandidateOrder(
        name=name, kind="model", architecture=base.architecture, directory=fetch_model(model),
        sha256=model.sha256, has_seen_dataset=seen,
    )  # fmt: skip
    return ("model", model.id), order


def _default_names(session: Session, dataset: Dataset) -> list[str]:
    names = [bundled.NAME] if bundled.DESCRIPTION.exists() else []
    names += architectures()
    for modality in ("image", "audio"):
        query = select(Model).where(Model.modality == modality, Model.deleted_at.is_(None)).order_by(Model.id.desc()).limit(_LOOKED_AT)
        fresh = [model.id for model in session.scalars(query) if not _has_seen(session, model, dataset)]
        names += fresh[:_MOST_OWN]
    return names


def _has_seen(session: Session, model: Model, dataset: Dataset) -> bool:
    """Tell whether a model, or one that it was built on, was trained on clips of the dataset: then its vectors know their labels."""
    lineage = ModelManifest.model_validate(model.manifest, strict=False).lineage
    if any(step.dataset_sha256 == dataset.sha256 for step in lineage):
        return True
    family = _with_parents(session, dataset.id)
    return any(step.dataset in family or dataset.id in _with_parents(session, step.dataset) for step in lineage)


def _with_parents(session: Session, dataset_id: str | None) -> set[str]:
    """Return a dataset and all that it extends."""
    found: set[str] = set()
    while dataset_id is not None and dataset_id not in found:
        found.add(dataset_id)
        dataset = session.get(Dataset, dataset_id)
        dataset_id = dataset.parent if dataset is not None else None
    return found
