"""A model's files as the storage gives them: those that the database knows, or an error.

An artifact vouches for itself: model.json holds the hashes of its other files, and whoever loads it checks them. That tells damage, and
not whether it is the right artifact. A folder that was exchanged as a whole, by a restore into the wrong place or by somebody who may
write to the storage, would answer under the name of the model that was there before. So its list of hashes is held against the row's.
"""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select

from models.errors import ArtifactError
from models.manifest import read_manifest
from worker.aliases import Located
from worker.database import Model, read
from worker.errors import DependencyError
from worker.storage import get_storage


def fetch_model(model: Model) -> Path:
    """Return the local folder of a model's artifact, fetched if need be.

    Raises DependencyError: blob_missing where they are gone, blob_damaged where they are not those that the model was made with.
    """
    return _fetch(model.blob, model.manifest.get("files", {}))


def fetch_located(model: Located) -> Path:
    """Do as `fetch_model` does, for what serving knows of a model."""
    with read() as session:
        manifest = session.scalars(select(Model.manifest).where(Model.id == model.model_id)).one()
    return _fetch(model.blob, manifest.get("files", {}))


def _fetch(blob: str, files: Mapping[str, str]) -> Path:
    folder = get_storage().fetch_directory(blob)
    try:
        listed = read_manifest(folder).files
    except ArtifactError as error:  # of an upload that is the caller's fault, here it is ours
        raise DependencyError(f"the storage holds a damaged artifact at {blob}", code="blob_damaged", retry_after=60) from error
    if listed != files:
        raise DependencyError(f"the storage holds another model's files at {blob}", code="blob_damaged", retry_after=60)
    return folder
