"""A model that answers: ONNX Runtime around the graph of an artifact. Imports no torch.

The graph takes the waveform, so the features that are served are those that were exported. The answer for a whole sound is the graph on
`fit_clip` of it, which is what evaluation measures.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from models.audio import Sound, Waveform, fit_clip
from models.config import ModelManifest, NetworkConfig
from models.errors import ArtifactError, ConfigError
from models.features import clip_samples
from models.manifest import GRAPH, MANIFEST, read_manifest, verify_files

Floats = np.ndarray[Any, np.dtype[np.float32]]
OUTPUT = "probabilities"
EMBEDDING = "embedding"  # the backbone's vector, which the head takes; graphs that older versions exported have none
_CHUNK = 16  # clips run at once: a quarter less time a clip than one by one, while the memory stays that of 16
_SUM_TOLERANCE = 1e-3
_SILENT = 4  # of ONNX Runtime's log levels: what goes wrong is raised, and must not be written to the service's output as well
# All that ONNX Runtime raises; its classes have no common ancestor below Exception.
RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    value for value in vars(onnxruntime_pybind11_state).values() if isinstance(value, type) and issubclass(value, Exception)
)


@dataclass(frozen=True)
class Segment:
    """What was heard in one stretch of a sound."""

    start: float
    """seconds"""
    end: float
    """seconds"""
    probabilities: Floats
    """(classes,)"""


@dataclass(frozen=True)
class EnginePrediction:
    """The answer for one sound."""

    probabilities: Floats
    """(classes,), of the clip with the most energy"""
    segments: tuple[Segment, ...]
    """from begin to end; one where the sound is no longer than the clip"""
    timings: dict[str, float]
    """seconds; features: cutting out clips; model: the graph, which computes the log-mels"""


class Engine:
    """One loaded model. Nothing in it changes after `load`, so any number of threads may predict at once."""

    def __init__(self, manifest: ModelManifest, session: onnxruntime.InferenceSession) -> None:
        """Use `load`, which checks what this takes for granted."""
        self.manifest = manifest
        self._session = session
        self._input, self._shape = graph_input(manifest.network)
        self.embedding_size = _embedding_size(session)
        """numbers in the backbone's vector; None where the graph does not give it"""
        self.thresholds: Floats = np.array([manifest.thresholds.get(label, 0.0) for label in manifest.network.labels], np.float32)
        """(classes,), the least probability at which each label is believed; zeros where nothing is rejected"""

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> Self:
        """Verify the artifact in `folder`, open its graph and prove that it runs. `threads` are used by one prediction.

        Raises ArtifactError, with the file as `param`, for files that are missing, damaged or contradict one another.
        """
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
        session = open_session((folder / GRAPH).read_bytes(), threads=threads)
        try:
            engine = cls(manifest, session)
        except ConfigError as error:
            raise ArtifactError(f"{MANIFEST} has open values: {error.message}", param=MANIFEST) from error
        engine._prove()
        return engine

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the probabilities."""
        return self.manifest.network.labels

    def predict(self, sound: Sound) -> EnginePrediction:
        """Return the answer for a sound at the model's sample rate; safe in threads.

        Raises ValueError for a sound at another rate, and where the model works on pictures.
        """
        rate = self.manifest.network.features.sample_rate
        if self.manifest.network.modality != "audio" or sound.sample_rate != rate:
            raise ValueError(f"a {self.manifest.network.modality} model at {rate} Hz can't take a sound at {sound.sample_rate} Hz")
        began = time.perf_counter()
        n_samples = self._shape[0]
        clip = fit_clip(sound.waveform, n_samples)
        starts = segment_starts(len(sound.waveform), n_samples)
        windows = _windows(sound.waveform, starts, n_samples) if len(starts) > 1 else clip[None]
        cut = time.perf_counter()
        whole = self.probabilities(clip[None])
        parts = self.probabilities(windows) if len(starts) > 1 else whole
        timings = {"features": cut - began, "model": time.perf_counter() - cut}
        ends = [*((start + n_samples) / rate for start in starts[:-1]), sound.duration_seconds]
        segments = tuple(Segment(start / rate, end, part) for start, end, part in zip(starts, ends, parts, strict=True))
        return EnginePrediction(whole[0], segments, timings)

    def probabilities(self, inputs: Floats) -> Floats:
        """Return probabilities, shape (batch, classes), of waveforms (batch, clip_samples) or pictures (batch, 3, side, side).

        Waveforms are float32 -1 to 1, pictures 0 to 1. Raises ValueError for other shapes.
        """
        if inputs.shape[1:] != self._shape:
            raise ValueError(f"inputs have shape {inputs.shape}, the model takes (batch, {', '.join(map(str, self._shape))})")
        chunks = [self._run(inputs[start : start + _CHUNK]) for start in range(0, len(inputs), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, len(self.labels)), np.float32)

    def _run(self, inputs: Floats) -> Floats:
        """Return probabilities, shape (batch, classes), of one chunk."""
        (answer,) = self._session.run([OUTPUT], {self._input: np.ascontiguousarray(inputs, np.float32)})
        probabilities: Floats = answer
        return probabilities

    def embeddings(self, inputs: Floats) -> Floats:
        """Return the backbone's vectors, shape (batch, features), of inputs as `probabilities` takes them.

        Raises ValueError for other shapes, ArtifactError (embedding_unavailable) for a graph that does not give them.
        """
        if inputs.shape[1:] != self._shape:
            raise ValueError(f"inputs have shape {inputs.shape}, the model takes (batch, {', '.join(map(str, self._shape))})")
        if self.embedding_size is None:
            raise ArtifactError(
                "the model's graph does not give the backbone's vector: an older version exported it", code="embedding_unavailable",
                hint="train the model again, or use a newer one",
            )  # fmt: skip
        chunks = [self._embed(inputs[start : start + _CHUNK]) for start in range(0, len(inputs), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.embedding_size), np.float32)

    def _embed(self, inputs: Floats) -> Floats:
        """Return the vectors, shape (batch, features), of one chunk."""
        (vectors,) = self._session.run([EMBEDDING], {self._input: np.ascontiguousarray(inputs, np.float32)})
        found: Floats = vectors
        return found

    def _prove(self) -> None:
        """Raise ArtifactError unless the graph has the inputs and outputs that the manifest promises and answers with probabilities."""
        inputs = [(node.name, node.type, tuple(node.shape[1:])) for node in self._session.get_inputs()]
        outputs = [(node.name, node.type) for node in self._session.get_outputs()]
        known = [[(name, "tensor(float)") for name in names] for names in ((OUTPUT,), (OUTPUT, EMBEDDING))]
        if inputs != [(self._input, "tensor(float)", self._shape)] or outputs not in known:
            raise _graph_error(f"takes {str(inputs)[:200]} and gives {str(outputs)[:200]}")
        try:
            answer = self._run(np.zeros((2, *self._shape), np.float32))
        except RUNTIME_ERRORS as error:
            raise _graph_error("does not run on two inputs at once") from error
        if not self.labels or answer.shape != (2, len(self.labels)):
            raise _graph_error(f"answers two inputs with shape {answer.shape}, there are {len(self.labels)} labels")
        if not (np.isfinite(answer).all() and (answer >= 0).all() and np.allclose(answer.sum(axis=1), 1, atol=_SUM_TOLERANCE)):
            raise _graph_error("answers with numbers that are no probabilities")
        if self.embedding_size is not None:
            vectors = self._embed(np.zeros((2, *self._shape), np.float32))
            if vectors.shape != (2, self.embedding_size) or not np.isfinite(vectors).all():
                raise _graph_error(f"answers two inputs with embeddings of shape {vectors.shape}, or with such that are not finite")


def graph_input(config: NetworkConfig) -> tuple[str, tuple[int, ...]]:
    """Return the name of the graph's input and the shape of one item: (clip_samples,) or (3, side, side).

    Raises ConfigError where the size is still auto.
    """
    if config.modality == "audio":
        return "waveform", (clip_samples(config.features),)
    side = config.features.image_size
    if isinstance(side, str):
        raise ConfigError("image_size is still auto: it is resolved when a job starts.", param="features.image_size")
    return "pixels", (3, side, side)


def open_session(graph: bytes, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """Return a session on the CPU for a graph. Raises ArtifactError where ONNX Runtime can't take it.

    Opened from bytes, not from a path, so that a foreign graph can't read other files as its external data.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait for work would otherwise burn the cores that other predictions need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _SILENT
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        raise _graph_error("can't be loaded") from error


def _embedding_size(session: onnxruntime.InferenceSession) -> int | None:
    """Return the length of the graph's second output as it is declared, -1 where it declares none, None where there is no such output."""
    shapes = [node.shape for node in session.get_outputs() if node.name == EMBEDDING]
    if not shapes:
        return None
    return shapes[0][1] if len(shapes[0]) == 2 and isinstance(shapes[0][1], int) else -1


def segment_starts(n_samples: int, clip: int) -> list[int]:
    """Return where the windows of `clip` samples begin: half a clip apart, the last one aligned to the end of `n_samples`."""
    last = max(0, n_samples - clip)
    return [*range(0, last, max(1, clip // 2)), last]


def _windows(waveform: Waveform, starts: list[int], n_samples: int) -> Waveform:
    """Return the windows of a waveform of shape (n,), shape (len(starts), n_samples)."""
    windows: Waveform = np.lib.stride_tricks.sliding_window_view(waveform, n_samples)[starts]
    return windows


def _graph_error(what: str) -> ArtifactError:
    return ArtifactError(f"{GRAPH} {what}", param=GRAPH, hint="export the model again")
