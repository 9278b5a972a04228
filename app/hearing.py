"""Sounds as they came → what the contract (openapi.json) promises of them. Runs in the queue's threads."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.queueing import Outcome, Waiting
from models.audio import AudioLimits, Sound, decode_audio
from models.engine import Engine, EnginePrediction
from worker.errors import OverloadedError
from worker.settings import Settings

Answer = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the caller wants to see."""

    top_k: int = 5
    segments: bool = False


@dataclass(frozen=True)
class _Decoded:
    asked: Waiting[Answer]
    sound: Sound
    seconds: float


def sound_limits(settings: Settings) -> AudioLimits:
    """Return the limits of one sound that are in force."""
    return AudioLimits(max_bytes=settings.max_sound_bytes, max_seconds=settings.max_sound_seconds)


def hear(limits: AudioLimits, engine: Engine, batch: Sequence[Waiting[Answer]]) -> Iterator[list[Outcome[Answer]]]:
    """Yield answers or exceptions: first of what can't be decoded, then of the sounds of one clip together, then of the long ones."""
    failed: list[Outcome[Answer]] = []
    decoded: list[_Decoded] = []
    rate, clip = engine.manifest.network.features.sample_rate, engine.clip_samples
    for asked in batch:
        began = time.perf_counter()
        try:
            _check_time(asked)
            sound = decode_audio(asked.data, sample_rate=rate, limits=limits)
        except Exception as error:  # noqa: BLE001 - whoever waits for the sound raises it
            failed.append((asked, error))
        else:
            decoded.append(_Decoded(asked, sound, time.perf_counter() - began))
    if failed:
        yield failed
    short = [one for one in decoded if len(one.sound.waveform) <= clip]
    for group in ([short] if short else []) + [[one] for one in decoded if len(one.sound.waveform) > clip]:
        yield _judge(engine, group)


def _judge(engine: Engine, group: Sequence[_Decoded]) -> list[Outcome[Answer]]:
    try:
        predictions = engine.predict_many([one.sound for one in group])
        return [
            (one.asked, one.asked.finish(one.sound, prediction, {"decode": one.seconds, **prediction.timings}))
            for one, prediction in zip(group, predictions, strict=True)
        ]
    except Exception as error:  # noqa: BLE001 - whoever waits for the sounds raises it
        return [(one.asked, error) for one in group]


def _check_time(asked: Waiting[Answer]) -> None:
    if time.monotonic() > asked.until:
        raise OverloadedError("the prediction could not begin in time", retry_after=1)


def answer_of(model_id: str, engine: Engine, options: Options) -> Callable[[Sound, EnginePrediction, dict[str, float]], Answer]:
    """Return what makes an answer of a sound, what was heard in it and the seconds that each step took."""

    def finish(sound: Sound, prediction: EnginePrediction, seconds: dict[str, float]) -> Answer:
        timings = {**seconds, "total": sum(seconds.values())}
        return {
            "object": "prediction",
            "model": model_id,
            **judged(engine.labels, prediction.probabilities, engine.thresholds),
            "top_k": ranked(engine.labels, prediction.probabilities, options.top_k),
            "duration_seconds": round(sound.duration_seconds, 6),
            "warnings": list(sound.warnings),
            "timings_ms": {name: round(1000 * value, 3) for name, value in timings.items()},
            **_segments(engine, prediction, options),
        }

    return finish


def judged(labels: tuple[str, ...], probabilities: np.ndarray[Any, Any], thresholds: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return label, probability and rejected for probabilities and their thresholds, both of shape (classes,)."""
    best = int(np.argmax(probabilities))
    rejected = bool(probabilities[best] < thresholds[best])
    return {"label": None if rejected else labels[best], "probability": _rounded(probabilities[best]), "rejected": rejected}


def ranked(labels: tuple[str, ...], probabilities: np.ndarray[Any, Any], top_k: int) -> list[dict[str, Any]]:
    """Return the likeliest labels with their probabilities, for probabilities of shape (classes,)."""
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
