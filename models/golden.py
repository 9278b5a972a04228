"""Golden clips: a few inputs stored with a model, and what it answered when it was made. No torch here: the serving process replays them.

A graph, a library or a machine that answers otherwise shows itself before anybody relies on it. golden.safetensors holds

inputs          int16 waveforms (n, clip_samples), or uint8 pictures (n, 3, side, side)
probabilities   float32 (n, classes), by the network itself, not by the graph
clips           in the header, a JSON list: what each input is
"""

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from models.audio import from_pcm16
from models.config import ModelManifest
from models.engine import RUNTIME_ERRORS, Engine, Floats, graph_input
from models.errors import ArtifactError
from models.manifest import GOLDEN

TOLERANCE = 1e-3  # in probability: ten times what export allows, so that other kernels of another version pass, and other answers don't
MAX_CLIPS = 8
MAX_BYTES = 2**20  # of the inputs together; one clip is kept however long it is
_MAX_FILE_BYTES = 4 * 2**20  # above the longest clip there is, 30 s at 48 kHz
_MAX_NAME = 200
_LIBRARIES = ("onnxruntime", "numpy", "soxr")  # what a served answer depends on
_STORED = {"audio": ("I16", np.int16), "image": ("U8", np.uint8)}

Stored = NDArray[np.integer[Any]]
"""int16 or uint8"""


@dataclass(frozen=True)
class GoldenSet:
    """Inputs and the answers to them."""

    inputs: Stored
    """int16 (n, clip_samples) or uint8 (n, 3, side, side)"""
    probabilities: Floats
    """(n, classes)"""
    clips: tuple[str, ...]
    """what each input is, for people"""


@dataclass(frozen=True)
class GoldenReport:
    """What a replay found."""

    max_difference: float
    """in probability; infinite where the engine gave no finite answer"""
    worst_clip: str
    changed_labels: tuple[str, ...]
    """clips whose likeliest label is another one"""
    made_with: dict[str, str]
    """library → version when the model was made"""
    replayed_with: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether the answers are still those of the model as it was made."""
        return self.max_difference <= TOLERANCE

    def sentence(self) -> str:
        """Return what a person needs to know: clip, difference, limit, versions."""
        changed = f", {len(self.changed_labels)} with another label" if self.changed_labels else ""
        versions = ", ".join(
            f"{name} {was}, now {self.replayed_with.get(name, 'absent')}"
            for name, was in self.made_with.items()
            if self.replayed_with.get(name) != was
        )
        why = f"; made with {versions}" if versions else "; the libraries are those that it was made with"
        return f"its golden clip {self.worst_clip!r} is answered {self.max_difference:.2g} off, {TOLERANCE:g} is the limit{changed}{why}"


def library_versions() -> dict[str, str]:
    """Return library → version of what a served answer depends on, as it is installed here."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def as_stored(inputs: Floats) -> Stored:
    """Return the nearest inputs that are stored: int16 for waveforms (n, clip_samples), uint8 for pictures (n, 3, side, side)."""
    stored: Stored
    if inputs.ndim == 2:
        stored = np.clip(np.rint(inputs * 32768.0), -32768, 32767).astype(np.int16)
    else:
        stored = np.clip(np.rint(inputs * 255.0), 0, 255).astype(np.uint8)
    return stored


def as_inputs(stored: Stored) -> Floats:
    """Return stored inputs as a graph takes them: float32 of the same shape, -1 to 1 or 0 to 1."""
    if stored.dtype == np.int16:
        return from_pcm16(stored.astype(np.int16, copy=False))
    return stored.astype(np.float32) / np.float32(255)


def most_clips(shape: tuple[int, ...]) -> int:
    """Return how many inputs of a `graph_input` shape are kept: up to MAX_CLIPS within MAX_BYTES, at least one."""
    size = int(np.prod(shape)) * (2 if len(shape) == 1 else 1)
    return max(1, min(MAX_CLIPS, MAX_BYTES // size))


def golden_bytes(golden: GoldenSet) -> bytes:
    """Return the content of golden.safetensors; the same set gives the same bytes. Raises ValueError where its parts don't fit."""
    if not len(golden.inputs) == len(golden.probabilities) == len(golden.clips) <= MAX_CLIPS:
        counts = (len(golden.inputs), len(golden.probabilities), len(golden.clips))
        raise ValueError(f"inputs, answers and names are {counts}; equally many, and {MAX_CLIPS} at most, make a set")
    tensors: dict[str, NDArray[Any]] = {
        "inputs": np.ascontiguousarray(golden.inputs),
        "probabilities": np.ascontiguousarray(golden.probabilities, np.float32),
    }
    # One entry alone: the header's entries come in no particular order.
    return save(tensors, {"clips": json.dumps([name[:_MAX_NAME] for name in golden.clips])})


def read_golden(folder: Path, manifest: ModelManifest) -> GoldenSet | None:
    """Return the golden clips of a verified artifact, None for one that was made without.

    Raises ArtifactError for a file that is not what a golden set of this model looks like.
    """
    if manifest.golden is None and GOLDEN not in manifest.files:
        return None
    path = folder / GOLDEN
    if manifest.golden is None or not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
        raise _damaged("is missing, too large or not described")
    try:
        with safe_open(path, framework="numpy") as file:
            return _checked(file, manifest)
    except SafetensorError as error:
        raise _damaged("is no safetensors file") from error


def _checked(file: Any, manifest: ModelManifest) -> GoldenSet:
    """Return the content of an opened file once its header has been held against the model's description."""
    record = manifest.golden
    assert record is not None
    code, _ = _STORED[manifest.network.modality]
    _, shape = graph_input(manifest.network)
    expected = {
        "inputs": (code, [record.clips, *shape]),
        "probabilities": ("F32", [record.clips, len(manifest.network.labels)]),
    }
    found = {name: (str(part.get_dtype()), list(part.get_shape())) for name in file.keys() if (part := file.get_slice(name))}  # noqa: SIM118 - no mapping
    if found != expected or not 0 < record.clips <= MAX_CLIPS:
        raise _damaged(f"holds {str(found)[:300]}")
    clips = _names((file.metadata() or {}).get("clips", ""))
    if len(clips) != record.clips:
        raise _damaged("does not name each clip")
    return GoldenSet(file.get_tensor("inputs"), file.get_tensor("probabilities"), clips)


def _names(text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged("has no list of clips") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and len(name) <= _MAX_NAME for name in names):
        raise _damaged("has no list of clips")
    return tuple(names)


def replay(engine: Engine, golden: GoldenSet) -> GoldenReport:
    """Return how far an engine's answers are from the stored ones."""
    try:
        answers = engine.probabilities(as_inputs(golden.inputs))
    except RUNTIME_ERRORS:
        answers = np.full_like(golden.probabilities, np.nan)
    differences = np.abs(answers - golden.probabilities).max(axis=1)
    differences = np.where(np.isnan(differences), np.inf, differences)  # NaN would compare as if it were no difference
    worst = int(differences.argmax())
    changed = answers.argmax(axis=1) != golden.probabilities.argmax(axis=1)
    record = engine.manifest.golden
    return GoldenReport(
        max_difference=float(differences[worst]),
        worst_clip=golden.clips[worst],
        changed_labels=tuple(name for name, other in zip(golden.clips, changed, strict=True) if other),
        made_with=dict(record.made_with) if record else {},
        replayed_with=library_versions(),
    )


def replay_stored(engine: Engine, folder: Path) -> GoldenReport | None:
    """Replay the golden clips of the artifact in `folder`; None where it has none. Raises ArtifactError where they are damaged."""
    golden = read_golden(folder, engine.manifest)
    return None if golden is None else replay(engine, golden)


def _damaged(what: str) -> ArtifactError:
    return ArtifactError(f"{GOLDEN} {what}", param=GOLDEN, hint="get the artifact again, or train the model again")
