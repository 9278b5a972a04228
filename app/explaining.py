"""Sounds as pictures, and which part of a sound decided: what the contract (openapi.json) promises of them. All of it blocks."""

import base64
import time
from typing import Any

import numpy as np

from app.embeddings import clip_of, heard
from app.hearing import judged, ranked
from app.predictors import Predictors
from models.audio import AudioLimits, decode_audio, from_pcm16
from models.dataset import Items
from models.engine import Engine
from models.occlusion import SEGMENTS, Occlusion, occlude
from models.spectrogram import Spectrogram, spectrogram_of

TOP_K = 5


def picture_of_sound(data: bytes, limits: AudioLimits) -> dict[str, Any]:
    """Return the spectrogram of a sound as it came. Raises MediaError."""
    sound = decode_audio(data, limits=limits)
    return as_json(spectrogram_of(sound.waveform, sound.sample_rate))


def picture_of_item(samples: Items, sample_rate: int) -> dict[str, Any]:
    """Return the spectrogram of a packed item, int16 samples of shape (n,)."""
    return as_json(spectrogram_of(from_pcm16(np.asarray(samples, np.int16)), sample_rate))


def as_json(found: Spectrogram) -> dict[str, Any]:
    """Return a spectrogram with the fields of the contract (openapi.json)."""
    bands, frames = found.levels.shape
    return {
        "object": "spectrogram",
        "bands": bands,
        "frames": frames,
        "duration_seconds": round(found.seconds, 6),
        "sample_rate": found.sample_rate,
        "levels": base64.b64encode(found.levels.tobytes()).decode(),
    }


def explain(predictors: Predictors, name: str, data: bytes, limits: AudioLimits) -> dict[str, Any]:
    """Return what a model hears in a sound's loudest clip, its spectrogram, and what each part of it is worth to the answer.

    Raises NotFoundError, GoneError, InputError, DependencyError, ArtifactError.
    """
    began = time.perf_counter()
    model_id, engine = predictors.engine(name)
    sound = heard(engine, data, limits)
    clip = clip_of(engine, sound)
    found = occlude(engine.probabilities, clip, sound.sample_rate)
    return {
        "object": "explanation",
        "model": model_id,
        **_answer(engine, found),
        "spectrogram": as_json(spectrogram_of(clip, sound.sample_rate)),
        "occlusion": _parts(found, len(clip) / sound.sample_rate),
        "duration_seconds": round(sound.duration_seconds, 6),
        "warnings": list(sound.warnings),
        "milliseconds": round(1000 * (time.perf_counter() - began), 3),
    }


def _answer(engine: Engine, found: Occlusion) -> dict[str, Any]:
    top = ranked(engine.labels, found.probabilities, TOP_K)
    return judged(engine.labels, found.probabilities, engine.thresholds) | {"top_k": top, "explained": top[0]["label"]}


def _parts(found: Occlusion, seconds: float) -> dict[str, Any]:
    times = [round(seconds * part / SEGMENTS, 6) for part in range(SEGMENTS + 1)]
    return {"hertz": list(found.edges), "seconds": times, "losses": [[round(float(loss), 6) for loss in row] for row in found.losses]}
