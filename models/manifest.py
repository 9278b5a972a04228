"""The files of an artifact, and whether they are what its model.json says. No torch here: the serving process reads these.

model.json          ModelManifest: what the model is, and the sha256 of the other files
model.safetensors   the weights
model.onnx          waveform or picture in, probabilities and the backbone's vector out
evaluation.json     how it did on each split
MODEL_CARD.md       the same for people
golden.safetensors  a few inputs and the answers to them; artifacts of older versions have none
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.config import ModelManifest
from models.errors import ArtifactError

WEIGHTS = "model.safetensors"
MANIFEST = "model.json"
GRAPH = "model.onnx"
CARD = "MODEL_CARD.md"
EVALUATION = "evaluation.json"
GOLDEN = "golden.safetensors"
HASHED = (WEIGHTS, GRAPH, EVALUATION, CARD, GOLDEN)
_REQUIRED = (WEIGHTS, GRAPH)
_MAX_JSON_BYTES = 16 * 2**20  # a thousand labels' confusion matrix, several times over; an imported file must not fill the memory
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)  # other OSErrors are this machine's trouble, not the artifact's


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal. Raises ArtifactError where there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except _ABSENT as error:
        raise _missing(path.name) from error


def read_manifest(folder: Path) -> ModelManifest:
    """Return what the artifact in `folder` says of itself. Raises ArtifactError where model.json is missing or can't be understood."""
    content = _read(folder / MANIFEST)
    try:
        return ModelManifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise ArtifactError(f"{MANIFEST} is damaged or of another format: {where}: {first['msg']}", param=MANIFEST) from error


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Return evaluation.json's content, nothing where the artifact has none. Raises ArtifactError where it is no finite JSON object."""
    if not (folder / EVALUATION).exists():
        return {}
    try:
        document = json.loads(_read(folder / EVALUATION), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{EVALUATION} is no JSON that can be read", param=EVALUATION) from error
    if not isinstance(document, dict) or not isinstance(document.get("splits", {}), dict):
        raise ArtifactError(f"{EVALUATION} is no evaluation", param=EVALUATION)
    return document


def verify_files(folder: Path, manifest: ModelManifest) -> None:
    """Hold every file against the sha256 in the manifest.

    Raises ArtifactError, with the file as `param`, for one that is missing, changed, not listed or no part of an artifact.
    """
    for name in manifest.files:
        if name not in HASHED:  # before it becomes a path
            raise ArtifactError(f"{MANIFEST} lists {name[:100]!r}, which is no file of an artifact", param=MANIFEST)
    for name in HASHED:
        if name in manifest.files:
            _verify(folder / name, manifest.files[name])
        elif name in _REQUIRED or (folder / name).exists():
            raise ArtifactError(f"{MANIFEST} does not list {name}", param=name)


def _verify(path: Path, expected: str) -> None:
    if sha256_of(path) != expected:
        raise ArtifactError(
            f"{path.name} is damaged: its sha256 is not the one in {MANIFEST}", param=path.name, hint="get the artifact again"
        )


def check_weights(folder: Path) -> None:
    """Hold what the weights' header says against the file; their hash may be that of a lie. No tensor is read.

    For imports, which load the graph alone: weights that nobody can load would be found when somebody builds on them. Raises ArtifactError.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - predictions, for which these names are read too, need no weights

    path = folder / WEIGHTS
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ArtifactError(f"{path.name} is no safetensors file, or its header does not fit it", param=path.name) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_JSON_BYTES + 1)
    except _ABSENT as error:
        raise _missing(path.name) from error
    if len(content) > _MAX_JSON_BYTES:
        raise ArtifactError(f"{path.name} is larger than {_MAX_JSON_BYTES} bytes", param=path.name)
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _missing(name: str) -> ArtifactError:
    return ArtifactError(f"the artifact lacks {name}", param=name)
