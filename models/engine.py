"""A model that answers: ONNX Runtime around the graph of an artifact. Imports no torch.

The graph takes the waveform, so the features that are served are those that were exported; a quicker way to compute them is taken only
after it gave the same answers. The answer for a whole sound is the graph on
`fit_clip` of it, which is what evaluation measures.
"""

import itertools
import time
from collections.abc import Sequence
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
from models.graph_cut import cut_front
from models.manifest import GRAPH, MANIFEST, read_manifest, verify_files
from models.quick_features import QuickLogMel

Floats = np.ndarray[Any, np.dtype[np.float32]]
OUTPUT = "probabilities"
EMBEDDING = "embedding"  # the backbone's vector, which the head takes; graphs that older versions exported have none
_CHUNK = 16  # clips run at once: a quarter less time a clip than one by one, while the memory stays that of 16
_SUM_TOLERANCE = 1e-3
# In probability, as the export's own. Noise and speech differ by 1e-7; the quiet bins beside a pure tone, which every transform rounds
# in its own way, made 1e-5 in a network with steep answers.
_QUICK_TOLERANCE = 1e-4
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
    """seconds; features: cutting out clips, and log-mels where they are not left to the graph; model: the graph"""


@dataclass(frozen=True)
class _Graph:
    """A graph, and what it expects done to the inputs."""

    session: onnxruntime.InferenceSession
    input: str
    front: QuickLogMel | None = None

    def run(self, output: str, inputs: Sequence[Floats] | Floats) -> tuple[Floats, float]:
        """Return an output, shape (batch, numbers), and the seconds that the graph itself took; all inputs, one a row, at once."""
        fed = np.ascontiguousarray(inputs, np.float32) if self.front is None else self.front(inputs)
        began = time.perf_counter()
        (answer,) = self.session.run([output], {self.input: fed})
        return answer, time.perf_counter() - began


class Engine:
    """One loaded model. Nothing in it changes after `load`, so any number of threads may predict at once."""

    def __init__(self, manifest: ModelManifest, session: onnxruntime.InferenceSession) -> None:
        """Use `load`, which checks what this takes for granted."""
        self.manifest = manifest
        name, self._shape = graph_input(manifest.network)
        self._graph = _Graph(session, name)
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
        graph = (folder / GRAPH).read_bytes()
        try:
            engine = cls(manifest, open_session(graph, threads=threads))
        except ConfigError as error:
            raise ArtifactError(f"{MANIFEST} has open values: {error.message}", param=MANIFEST) from error
        engine._prove()
        engine._quicken(graph, threads)
        return engine

    @property
    def clip_samples(self) -> int:
        """Samples that the graph takes at once; for a speech model."""
        return self._shape[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the probabilities."""
        return self.manifest.network.labels

    def predict(self, sound: Sound) -> EnginePrediction:
        """Return the answer for a sound at the model's sample rate; safe in threads.

        Raises ValueError for a sound at another rate, and where the model works on pictures.
        """
        return self.predict_many([sound])[0]

    def predict_many(self, sounds: Sequence[Sound]) -> list[EnginePrediction]:
        """Return the answers for sounds at the model's sample rate, in order, their clips run together; safe in threads.

        Each answer's timings are those of all. Raises ValueError as `predict` does.
        """
        began = time.perf_counter()
        cut = [self._cut(sound) for sound in sounds]
        answers, model_seconds = self._answer([row for _, rows in cut for row in rows])
        timings = {"features": time.perf_counter() - began - model_seconds, "model": model_seconds}
        ends = itertools.accumulate(len(rows) for _, rows in cut)
        parts = [answers[end - len(rows) : end] for (_, rows), end in zip(cut, ends, strict=True)]
        return [
            EnginePrediction(part[0], self._segments(sound, starts, part), timings)
            for sound, (starts, _), part in zip(sounds, cut, parts, strict=True)
        ]

    def _cut(self, sound: Sound) -> tuple[list[int], Waveform]:
        """Return where a sound's windows begin, and the inputs: the clip with the most energy, then the windows if there are several."""
        rate = self.manifest.network.features.sample_rate
        if self.manifest.network.modality != "audio" or sound.sample_rate != rate:
            raise ValueError(f"a {self.manifest.network.modality} model at {rate} Hz can't take a sound at {sound.sample_rate} Hz")
        n_samples = self._shape[0]
        clip = fit_clip(sound.waveform, n_samples)[None]
        starts = segment_starts(len(sound.waveform), n_samples)
        return starts, clip if len(starts) == 1 else np.concatenate([clip, _windows(sound.waveform, starts, n_samples)])

    def _segments(self, sound: Sound, starts: list[int], answers: Floats) -> tuple[Segment, ...]:
        """Return what was heard where; `answers` are those of the clip and, where there are several, of the windows."""
        rate, n_samples = sound.sample_rate, self._shape[0]
        ends = [*((start + n_samples) / rate for start in starts[:-1]), sound.duration_seconds]
        parts = answers if len(starts) == 1 else answers[1:]
        return tuple(Segment(start / rate, end, part) for start, end, part in zip(starts, ends, parts, strict=True))

    def probabilities(self, inputs: Floats) -> Floats:
        """Return probabilities, shape (batch, classes), of waveforms (batch, clip_samples) or pictures (batch, 3, side, side).

        Waveforms are float32 -1 to 1, pictures 0 to 1. Raises ValueError for other shapes.
        """
        return self._answer(self._fitting(inputs))[0]

    def _fitting(self, inputs: Floats) -> Floats:
        if inputs.shape[1:] != self._shape:
            raise ValueError(f"inputs have shape {inputs.shape}, the model takes (batch, {', '.join(map(str, self._shape))})")
        return inputs

    def _answer(self, inputs: Sequence[Floats] | Floats, output: str = OUTPUT) -> tuple[Floats, float]:
        """Return one of the graph's outputs, shape (batch, numbers), and the seconds that the graph itself took."""
        chunks = [self._graph.run(output, inputs[start : start + _CHUNK]) for start in range(0, len(inputs), _CHUNK)]
        width = len(self.labels) if output == OUTPUT else self.embedding_size or 0
        answers = chunks[0][0] if len(chunks) == 1 else np.concatenate([np.zeros((0, width), np.float32), *(rows for rows, _ in chunks)])
        return answers, sum(seconds for _, seconds in chunks)

    def embeddings(self, inputs: Floats) -> Floats:
        """Return the backbone's vectors, shape (batch, features), of inputs as `probabilities` takes them.

        Raises ValueError for other shapes, ArtifactError (embedding_unavailable) for a graph that does not give them.
        """
        if self.embedding_size is None:
            raise ArtifactError(
                "the model's graph does not give the backbone's vector: an older version exported it", code="embedding_unavailable",
                hint="train the model again, or use a newer one",
            )  # fmt: skip
        return self._answer(self._fitting(inputs), EMBEDDING)[0]

    def _prove(self) -> None:
        """Raise ArtifactError unless the graph has the inputs and outputs that the manifest promises and answers with probabilities."""
        inputs = [(node.name, node.type, tuple(node.shape[1:])) for node in self._graph.session.get_inputs()]
        outputs = [(node.name, node.type) for node in self._graph.session.get_outputs()]
        known = [[(name, "tensor(float)") for name in names] for names in ((OUTPUT,), (OUTPUT, EMBEDDING))]
        if inputs != [(self._graph.input, "tensor(float)", self._shape)] or outputs not in known:
            raise _graph_error(f"takes {str(inputs)[:200]} and gives {str(outputs)[:200]}")
        try:
            answer, _ = self._graph.run(OUTPUT, np.zeros((2, *self._shape), np.float32))
        except RUNTIME_ERRORS as error:
            raise _graph_error("does not run on two inputs at once") from error
        if not self.labels or answer.shape != (2, len(self.labels)):
            raise _graph_error(f"answers two inputs with shape {answer.shape}, there are {len(self.labels)} labels")
        if not (np.isfinite(answer).all() and (answer >= 0).all() and np.allclose(answer.sum(axis=1), 1, atol=_SUM_TOLERANCE)):
            raise _graph_error("answers with numbers that are no probabilities")
        if self.embedding_size is not None:
            vectors, _ = self._graph.run(EMBEDDING, np.zeros((2, *self._shape), np.float32))
            if vectors.shape != (2, self.embedding_size) or not np.isfinite(vectors).all():
                raise _graph_error(f"answers two inputs with embeddings of shape {vectors.shape}, or with such that are not finite")

    def _quicken(self, graph: bytes, threads: int) -> None:
        """Compute the log-mels outside of the graph, at half of the cost, where that can be done and gives the same answers."""
        if self.manifest.network.modality != "audio":
            return
        try:
            front = QuickLogMel(self.manifest.network.features)
            name, body = cut_front(graph, front.shape)
            quick = _Graph(open_session(body, threads=threads), name, front)
        except (ArtifactError, ImportError):  # a graph by another exporter, or a scipy that we don't know: the whole graph serves
            return
        probe = _probe(self._shape[0])
        difference = quick.run(OUTPUT, probe)[0] - self._graph.run(OUTPUT, probe)[0]
        if np.abs(difference).max() <= _QUICK_TOLERANCE:  # NaN compares false
            self._graph = quick


def _probe(n_samples: int) -> Floats:
    """Return what both ways are compared on, shape (3, n_samples): noise, a chirp that passes all bands, silence."""
    time_axis = np.arange(n_samples) / n_samples
    chirp = 0.5 * np.sin(np.pi * n_samples * time_axis**2 / 2)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, n_samples)
    return np.stack([noise, chirp, np.zeros(n_samples)]).astype(np.float32)


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
