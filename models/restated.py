"""The papers of an artifact, written anew where more is known of a model than when it was saved.

A verdict on its transfer comes after a model has been published, and published files never change. Whoever takes the model away gets
evaluation.json and MODEL_CARD.md with it, and a model.json that lists their new hashes. No torch here: the serving process does this.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.card import model_card
from models.manifest import CARD, EVALUATION, MANIFEST, read_evaluation, read_manifest


def restated(folder: Path, evaluation: Mapping[str, Any]) -> dict[str, bytes]:
    """Return file name → new content, nothing where `folder` already says what `evaluation` does of the transfer.

    Raises ArtifactError where the artifact can't be read.
    """
    worth = evaluation.get("transfer")
    saved = read_evaluation(folder)
    if not worth or worth == saved.get("transfer"):
        return {}
    manifest = read_manifest(folder)
    told = saved | {"transfer": worth}
    files = {EVALUATION: json.dumps(told, allow_nan=False).encode(), CARD: model_card(manifest, told).encode()}
    hashes = manifest.files | {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return files | {MANIFEST: manifest.model_copy(update={"files": hashes}).model_dump_json(indent=1).encode()}
