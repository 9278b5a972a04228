"""The backbone's vector for a sound: decoded and cut as for a prediction, but without the head."""

import time
from typing import Any

from app.predictors import Predictors
from models.audio import AudioLimits, Sound, Waveform, decode_audio, fit_clip
from models.engine import Engine, Floats


def heard(engine: Engine, data: bytes, limits: AudioLimits) -> Sound:
    """Return a sound at the rate of the engine's model. Raises MediaError."""
    return decode_audio(data, sample_rate=engine.manifest.network.features.sample_rate, limits=limits)


def clip_of(engine: Engine, sound: Sound) -> Waveform:
    """Return what the model is given of a sound, shape (clip_samples,): the part with the most energy of a longer one."""
    return fit_clip(sound.waveform, engine.clip_samples)


def embed(predictors: Predictors, name: str, data: bytes, limits: AudioLimits) -> dict[str, Any]:
    """Return what the contract (openapi.json) promises for a sound. Blocks.

    Raises NotFoundError, GoneError, InputError, DependencyError, ArtifactError (embedding_unavailable).
    """
    model_id, engine = predictors.engine(name)
    marks = [time.perf_counter()]
    sound = heard(engine, data, limits)
    marks.append(time.perf_counter())
    clip = clip_of(engine, sound)
    marks.append(time.perf_counter())
    vector = engine.embeddings(clip[None])[0]
    marks.append(time.perf_counter())
    return {
        "object": "embedding",
        "model": model_id,
        "embedding": shortest(vector),
        "dimensions": len(vector),
        "duration_seconds": round(sound.duration_seconds, 6),
        "warnings": list(sound.warnings),
        "timings_ms": _timings(marks),
    }


def shortest(numbers: Floats) -> list[float]:
    """Return float32 numbers, shape (n,), so that JSON holds no more digits of them than they have: half as long."""
    return [float(str(number)) for number in numbers]


def _timings(marks: list[float]) -> dict[str, float]:
    """Return milliseconds between the times `marks`, seconds: of each step, and of all."""
    steps = zip(("decode", "features", "model"), marks, marks[1:], strict=False)
    spent = {step: end - begin for step, begin, end in steps} | {"total": marks[-1] - marks[0]}
    return {step: round(1000 * seconds, 3) for step, seconds in spent.items()}
