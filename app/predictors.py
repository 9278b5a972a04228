"""Predictions: a bounded cache of engines, a pool of threads, and admission that says no early.

What waits is bounded by time, not by count: as many as will be done within MAX_WAIT_SECONDS at the measured speed.
"""

import asyncio
import concurrent.futures
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.engines import Engines, unavailable
from app.filebody import FileBody
from app.metrics import Metrics
from models.audio import AudioLimits, decode_audio
from models.engine import Engine, EnginePrediction
from models.errors import ArtifactError, InputError, SynesthesiaError
from worker.aliases import DEFAULT_ALIAS
from worker.errors import DependencyError, OverloadedError
from worker.registry import get_model, model_directory
from worker.settings import MIB, Settings
from worker.storage import LOST_CODES

MAX_WAIT_SECONDS = 2.0  # a prediction that could not begin within this is refused
MAX_WAITING_BYTES = 256 * MIB  # of sounds in memory at once
RESOLVED_SECONDS = 1.0  # how long another process's move of an alias may go unseen
_FIRST_GUESS_SECONDS = 0.02  # of a prediction, before any was measured
_SMOOTHING = 0.1  # weight of the newest measurement


@dataclass(frozen=True)
class Options:
    """What the caller wants to see."""

    top_k: int = 5
    segments: bool = False


class Predictors:
    """All that `POST /predict` needs in one process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Threads start with the first prediction, engines load with the first sound for them."""
        self._metrics = metrics
        self._limits = AudioLimits(max_bytes=settings.max_sound_bytes, max_seconds=settings.max_sound_seconds)
        self._threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="predict")
        self._engines = Engines()
        self._resolved: dict[str, tuple[float, str, Path]] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._seconds = _FIRST_GUESS_SECONDS

    @property
    def loaded(self) -> int:
        """How many engines are held ready."""
        return len(self._engines)

    def forget(self) -> None:
        """Look names up again: an alias was moved, or a model deleted."""
        self._resolved = {}

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def collect(self, body: FileBody) -> AsyncIterator[bytes]:
        """Read a sound into memory, within what all of them may take together. Raises OverloadedError."""
        pieces: list[bytes] = []
        size = 0
        try:
            async for piece in body:
                size += len(piece)
                self._waiting_bytes += len(piece)
                if self._waiting_bytes > MAX_WAITING_BYTES:
                    raise OverloadedError("too many sounds are waiting", retry_after=1)
                pieces.append(piece)
            yield pieces[0] if len(pieces) == 1 else b"".join(pieces)
        finally:
            self._waiting_bytes -= size

    async def predict(self, name: str | None, data: bytes, options: Options) -> dict[str, Any]:
        """Return what the contract (openapi.json) promises for a sound.

        Raises OverloadedError, NotFoundError, GoneError, InputError, DependencyError.
        """
        expected = self._waiting * self._seconds / self._threads
        if expected > MAX_WAIT_SECONDS:
            raise self._refused(
                "overloaded", OverloadedError("more predictions wait than can be made in time", retry_after=math.ceil(expected))
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._pool, self._run, name or DEFAULT_ALIAS, data, options, time.monotonic())
        except SynesthesiaError as error:
            raise self._refused(error.code, error) from None
        finally:
            self._waiting -= 1
        seconds = answer["timings_ms"]["total"] / 1000
        self._seconds += _SMOOTHING * (seconds - self._seconds)
        self._metrics.observe_prediction("answered", seconds)
        return answer

    def _refused(self, code: str, error: SynesthesiaError) -> SynesthesiaError:
        self._metrics.observe_prediction(code, 0.0)
        return error

    def _run(self, name: str, data: bytes, options: Options, asked: float) -> dict[str, Any]:
        if time.monotonic() - asked > MAX_WAIT_SECONDS:
            raise OverloadedError("the prediction could not begin in time", retry_after=math.ceil(MAX_WAIT_SECONDS))
        model_id, engine = self.engine(name)
        began = time.perf_counter()
        sound = decode_audio(data, sample_rate=engine.manifest.network.features.sample_rate, limits=self._limits)
        decoded = time.perf_counter()
        prediction = engine.predict(sound)
        timings = {"decode": decoded - began, **prediction.timings, "total": time.perf_counter() - began}
        return {
            "object": "prediction",
            "model": model_id,
            **judged(engine.labels, prediction.probabilities, engine.thresholds),
            "top_k": _ranked(engine.labels, prediction.probabilities, options.top_k),
            "duration_seconds": round(sound.duration_seconds, 6),
            "warnings": list(sound.warnings),
            "timings_ms": {name: round(1000 * seconds, 3) for name, seconds in timings.items()},
            **_segments(engine, prediction, options),
        }

    def engine(self, name: str) -> tuple[str, Engine]:
        """Return id and engine of the speech model that `name` stands for; blocks while it loads.

        Raises NotFoundError, GoneError, InputError for a model of pictures, DependencyError where its files can't be used.
        """
        model_id, folder = self._resolve(name)
        return model_id, self._engines.get(model_id, folder)

    def _resolve(self, name: str) -> tuple[str, Path]:
        found = self._resolved.get(name)
        if found is not None and found[0] > time.monotonic():
            return found[1], found[2]
        model = get_model(name)
        if model["modality"] != "audio":
            raise InputError(
                f"model {model['id']} works on images; a prediction needs a speech model", code="modality_mismatch", param="query.model",
                hint="fine-tune it on sounds: POST /jobs with base_model",
            )  # fmt: skip
        try:
            model_id, folder = model_directory(model["id"])
        except (ArtifactError, OSError) as error:
            raise unavailable(model["id"]) from error
        except DependencyError as error:
            # A storage that does not answer is another matter: the model may be well.
            raise unavailable(model["id"]) if error.code in LOST_CODES else error from error
        self._resolved[name] = (time.monotonic() + RESOLVED_SECONDS, model_id, folder)
        return model_id, folder


def judged(labels: tuple[str, ...], probabilities: np.ndarray[Any, Any], thresholds: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return label, probability and rejected for probabilities and their thresholds, both of shape (classes,)."""
    best = int(np.argmax(probabilities))
    rejected = bool(probabilities[best] < thresholds[best])
    return {"label": None if rejected else labels[best], "probability": _rounded(probabilities[best]), "rejected": rejected}


def _ranked(labels: tuple[str, ...], probabilities: np.ndarray[Any, Any], top_k: int) -> list[dict[str, Any]]:
    # A stable sort, so that equal probabilities stand in the order of the labels, as argmax sees them.
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [{"label": labels[index], "probability": _rounded(probabilities[index])} for index in order]


def _segments(engine: Engine, prediction: EnginePrediction, options: Options) -> dict[str, Any]:
    if len(prediction.segments) < 2 and not options.segments:
        return {}
    parts = [
        {"start": round(s.start, 6), "end": round(s.end, 6), **judged(engine.labels, s.probabilities, engine.thresholds)}
        for s in prediction.segments
    ]
    return {"segments": parts}


def _rounded(probability: Any) -> float:
    return round(float(probability), 6)
