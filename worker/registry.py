"""Models, aliases and lineage: what has been made, what it is called, and what a job may build on."""

import json
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from models import bundled
from models.catalog import architectures
from models.config import AUTO, ModelManifest
from models.engine import Engine
from models.errors import ArtifactError, SynesthesiaError
from models.golden import read_golden
from models.manifest import check_weights, read_evaluation
from worker.aliases import aliases_of, is_named, resolve
from worker.audit import note
from worker.database import Job, Model, db_now, new_id, now, read, write
from worker.errors import ConflictError, NotFoundError
from worker.idempotency import note_made
from worker.model_files import fetch_model
from worker.owners import ALL_OWNERS
from worker.pages import Page, rfc3339
from worker.quotas import check_storage
from worker.settings import get_settings
from worker.states import ACTIVE
from worker.storage import get_storage, new_scratch

ARTIFACT_FILES = ("model.safetensors", "model.json", "model.onnx", "MODEL_CARD.md", "evaluation.json", "golden.safetensors")
_TIMM = "timm/"
_MAX_IMPORT_BYTES = 2**30


@dataclass(frozen=True)
class BaseModel:
    """What a job's `base_model` turned out to be."""

    name: str  # as it was asked for
    model_id: str | None  # a model of ours
    architecture: str
    has_weights: bool
    layers: tuple[str, ...]  # empty where only the trainer can tell (timm)


def find_base_model(session: Session, name: str) -> BaseModel:
    """Resolve a model id, an alias, bundled, auto (which begins with bundled), an architecture or timm/<name>.

    Raises NotFoundError, GoneError.
    """
    if name in (AUTO, bundled.NAME):
        described = bundled.bundled_backbone()
        return BaseModel(name, None, described.network.architecture, has_weights=True, layers=tuple(described.layers))
    if name in architectures():
        return BaseModel(name, None, name, has_weights=False, layers=tuple(architectures()[name]))
    if name.startswith(_TIMM):
        return BaseModel(name, None, name, has_weights=True, layers=())
    try:
        model = resolve(session, name)
    except NotFoundError as error:
        raise NotFoundError(
            f"base_model {name!r} is no model, alias or architecture", code="base_model_not_found", param="base_model",
            hint=f"architectures: {', '.join(architectures())}, timm/<name>; GET /backbones lists everything",
        ) from error  # fmt: skip
    manifest = ModelManifest.model_validate_json(json.dumps(model.manifest))
    return BaseModel(name, model.id, manifest.network.architecture, has_weights=True, layers=tuple(manifest.layers))


def get_model(name: str) -> dict[str, Any]:
    """Return one model by id or alias as JSON. Raises NotFoundError, GoneError."""
    with read() as session:
        model = resolve(session, name)
        return as_json(model, aliases_of(session, [model.id]).get(model.id, []))


def list_models(*, limit: int = 20, after: str | None = None, modality: str | None = None, name: str | None = None) -> Page:
    """Return models, newest first."""
    where: list[ColumnElement[bool]] = [Model.deleted_at.is_(None)]
    where += [Model.id < after] if after else []
    where += [Model.modality == modality] if modality else []
    where += [Model.name == name] if name else []
    with read() as session:
        rows = session.scalars(select(Model).where(*where).order_by(Model.id.desc()).limit(limit + 1)).all()
        aliases = aliases_of(session, [model.id for model in rows])
    return Page([as_json(model, aliases.get(model.id, [])) for model in rows[:limit]], len(rows) > limit)


def get_evaluation(name: str) -> dict[str, Any]:
    """Return a model's evaluation. Raises NotFoundError, GoneError."""
    with read() as session:
        model = resolve(session, name)
        return {"object": "evaluation", "model": model.id, **model.evaluation}


def model_directory(name: str) -> tuple[str, Path]:
    """Return a model's id and the local folder of its artifact, fetched if need be. Raises NotFoundError, GoneError, DependencyError."""
    with read() as session:
        model = resolve(session, name)
    return model.id, fetch_model(model)


def resolve_id(name: str) -> str:
    """Return the id behind an id or alias: one indexed read. Raises NotFoundError, GoneError."""
    with read() as session:
        return resolve(session, name).id


def add_model(
    session: Session, *, manifest: ModelManifest, evaluation: dict[str, Any], blob: str, size_bytes: int, model_id: str, **columns: Any
) -> Model:
    """Add a model whose artifact is already published, in the caller's transaction."""
    model = Model(
        id=model_id,
        modality=manifest.network.modality,
        manifest=manifest.model_dump(mode="json"),
        evaluation=evaluation,
        blob=blob,
        sha256=manifest.files.get("model.safetensors", ""),
        size_bytes=size_bytes,
        created_at=now(session),
        **columns,
    )
    session.add(model)
    session.flush()
    return model


def delete_model(name: str) -> None:
    """Delete a model and its artifact. Raises NotFoundError, GoneError, ConflictError while an alias or an unfinished job needs it."""
    with write() as session:
        model = resolve(session, name)
        if is_named(session, model.id):
            names = aliases_of(session, [model.id]).get(model.id, ["of an administrator"])  # others' names are not the caller's to see
            raise ConflictError(
                f"model {model.id} is what alias {names[0]!r} points at", code="model_in_use", hint="move or delete the alias first"
            )
        needs = or_(Job.base_model_id == model.id, and_(Job.control_of.is_not(None), Job.control_of == model.job_id))
        unfinished = select(Job.id).where(needs, Job.state.in_(("queued", "paused", *ACTIVE)))
        users = session.scalars(unfinished, execution_options=ALL_OWNERS).all()
        if users:
            message = f"job {users[0]} builds on model {model.id}, or is compared with it"
            raise ConflictError(message, code="model_in_use", hint="wait for the job's end, or cancel it")
        session.execute(update(Model).where(Model.id == model.id).values(deleted_at=db_now()))
        note(session, model.id)
    get_storage().delete(model.blob)


def import_model(archive: Path, *, name: str | None = None) -> dict[str, Any]:
    """Take in an artifact (a tar as `GET /models/{id}/artifact` gives it). Raises ArtifactError, which names the fault, QuotaError."""
    model_id = new_id("mdl")
    folder = new_scratch("import")
    try:
        _unpack(archive, folder)
        manifest = Engine.load(folder).manifest  # verifies the hashes, and that the graph runs
        check_weights(folder)
        read_golden(folder, manifest)
        evaluation = read_evaluation(folder)
        size = sum(path.stat().st_size for path in folder.iterdir())
        blob = get_storage().publish_directory(folder, f"artifacts/{model_id}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # refused, or copied and not moved
    try:
        with write() as session:
            check_storage(session, size)
            add_model(session, manifest=manifest, evaluation=evaluation, blob=blob, size_bytes=size, model_id=model_id, name=name)
            note(session, model_id)
            note_made(session, model_id)
    except SynesthesiaError:
        get_storage().delete(blob)
        raise
    return get_model(model_id)


def list_backbones() -> list[dict[str, Any]]:
    """Return what `base_model` accepts: architectures, timm weights at hand, own image models; each with its layers in order."""
    described = bundled.bundled_backbone()
    found = [_backbone_json(bundled.NAME, "bundled", described.layers, described.network.architecture)]
    found += [_backbone_json(name, "architecture", layers) for name, layers in architectures().items()]
    folder = get_settings().timm_dir
    if folder is not None and folder.is_dir():
        found += [_backbone_json(_TIMM + path.stem, "timm", {}) for path in sorted(folder.glob("*.safetensors"))]
    with read() as session:
        rows = session.scalars(select(Model).where(Model.modality == "image", Model.deleted_at.is_(None)).order_by(Model.id.desc())).all()
    return found + [
        _backbone_json(model.id, "model", model.manifest["layers"], model.manifest["network"]["architecture"]) for model in rows
    ]


def as_json(model: Model, aliases: Sequence[str]) -> dict[str, Any]:
    """Return a model with the fields of the contract (openapi.json)."""
    manifest = model.manifest
    network = manifest["network"]
    return {
        "id": model.id,
        "object": "model",
        "name": model.name,
        "modality": model.modality,
        "labels": network["labels"],
        "architecture": network["architecture"],
        "parameters": manifest["parameters"],
        "size_bytes": model.size_bytes,
        "dataset": model.dataset_id,
        "job": model.job_id,
        "base_model": model.base_model,
        "lineage": manifest["lineage"],
        "transfer": manifest["transfer"],
        "layers": [{"name": name, "parameters": count} for name, count in manifest["layers"].items()],
        "features": network["features"],
        "golden": manifest.get("golden"),
        "metrics": manifest["metrics"],
        "sha256": model.sha256,
        "created_at": rfc3339(model.created_at),
        "aliases": list(aliases),
    }


def _unpack(archive: Path, folder: Path) -> None:
    """Write the artifact's files, and nothing else, into `folder`."""
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if not member.isreg() or member.name not in ARTIFACT_FILES or member.size > _MAX_IMPORT_BYTES:
                    raise ArtifactError(
                        f"{member.name[:100]!r} does not belong into an artifact", hint=f"it holds {', '.join(ARTIFACT_FILES)}"
                    )
                source = tar.extractfile(member)
                assert source is not None, "regular files have contents"
                with (folder / member.name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except tarfile.TarError as error:
        raise ArtifactError(f"not a readable tar file: {error}") from error
    missing = [name for name in ARTIFACT_FILES[:3] if not (folder / name).exists()]
    if missing:
        raise ArtifactError(f"the artifact lacks {', '.join(missing)}")


def _backbone_json(name: str, kind: str, layers: dict[str, int], architecture: str | None = None) -> dict[str, Any]:
    listed = [{"name": layer, "parameters": count} for layer, count in layers.items()]
    return {"id": name, "object": "backbone", "kind": kind, "architecture": architecture or name, "layers": listed}
