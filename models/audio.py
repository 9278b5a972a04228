"""Bytes of a sound → one mono waveform at the wanted rate, on the grid of 16-bit numbers.

The grid: packed clips are stored as int16, and a served clip must be the same numbers as the clip that was trained on.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import soxr

from models.decoders import SoundStream, open_sound
from models.errors import MediaContentError

Waveform = np.ndarray[Any, np.dtype[np.float32]]
Sample = TypeVar("Sample", np.int16, np.float32)
# Float files of louder samples hold integers or garbage, not sound that was a little too loud.
MAX_PEAK = 64.0
# -70 dB below full scale: under the noise of any microphone.
SILENCE_PEAK = 10.0 ** (-70 / 20)
# A full-scale sine has 0.4 % of its samples within one 16-bit step of its peak, a clipped one more than 1 %.
CLIPPED_SHARE = 0.01
CLIPPED_LEVEL = 1.0 - 1.5 / 32768
# Samples between the starts that fit_clip tries: 10 ms at 16 kHz.
WINDOW_GRID = 160


@dataclass(frozen=True)
class AudioLimits:
    """What is accepted; settings can change it."""

    max_bytes: int = 25 * 2**20
    max_seconds: float = 60.0
    min_seconds: float = 0.02
    min_rate: int = 8000
    """Hz"""
    max_rate: int = 192000
    """Hz"""
    max_channels: int = 8


@dataclass(frozen=True)
class Sound:
    """One decoded sound."""

    waveform: Waveform
    """float32 (n_samples,), mono, -1 to 1, on the int16 grid"""
    sample_rate: int
    """Hz, of `waveform`"""
    source_rate: int
    """Hz, of the file"""
    channels: int
    """of the file"""
    container: str
    """wav, flac, ogg, mp3, aac, mp4 or webm"""
    duration_seconds: float
    """of the file"""
    warnings: tuple[str, ...] = ()
    """any of silence, clipped, rescaled"""


DEFAULT_LIMITS = AudioLimits()


def decode_audio(data: bytes, *, sample_rate: int = 16000, limits: AudioLimits = DEFAULT_LIMITS) -> Sound:
    """Decode, mix to mono (mean of the channels), resample (soxr HQ) and round to 16 bits.

    Raises MediaTypeError (media_type_unsupported) for bytes of no known format, and MediaContentError with one of the codes
    audio_empty, audio_truncated, audio_unreadable, audio_too_short, audio_too_long, audio_too_large, audio_not_finite,
    audio_channels, audio_rate. Silence, clipping and floats beyond full scale are warnings.
    """
    if not data:
        raise MediaContentError("The file is empty.", code="audio_empty")
    if len(data) > limits.max_bytes:
        raise MediaContentError(f"The file has {len(data)} bytes, the limit is {limits.max_bytes}.", code="audio_too_large")
    with open_sound(data) as stream:
        _check_header(stream, limits)
        samples = _read_all(stream, limits)
    peak = _check_samples(samples)
    warnings = _warnings(samples, peak)
    mono = samples[:, 0] if stream.channels == 1 else samples.mean(axis=1)
    if peak > 1.0:
        mono = mono / np.float32(peak)
    same_rate = stream.rate == sample_rate
    waveform: Waveform = mono if same_rate else soxr.resample(mono, stream.rate, sample_rate, quality="HQ")
    if not (same_rate and stream.channels == 1 and stream.on_grid):
        waveform = from_pcm16(to_pcm16(waveform))
    return Sound(waveform, sample_rate, stream.rate, stream.channels, stream.container, len(samples) / stream.rate, warnings)


def to_pcm16(waveform: Waveform) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Round float samples of any shape, full scale 1, to int16; what lies beyond full scale is clipped."""
    scaled: Waveform = np.rint(waveform * np.float32(32768))
    np.clip(scaled, -32768, 32767, out=scaled)
    return scaled.astype(np.int16)


def from_pcm16(samples: np.ndarray[Any, np.dtype[np.int16]]) -> Waveform:
    """Return int16 samples of any shape as float32 in -1 to 1, exactly (division by 32768)."""
    return samples.astype(np.float32) * np.float32(2.0**-15)


def fit_clip(waveform: np.ndarray[Any, np.dtype[Sample]], n_samples: int, grid: int = WINDOW_GRID) -> np.ndarray[Any, np.dtype[Sample]]:
    """Return exactly `n_samples` of a waveform of shape (n,), int16 or float32; used by training and serving alike.

    A shorter one is padded with zeros equally on both sides; of a longer one the window with the most energy is taken, among starts
    `grid` samples apart, the first on a tie. Sums are exact for samples on the int16 grid, so both dtypes choose the same window.
    """
    missing = n_samples - len(waveform)
    if missing == 0:
        return waveform
    if missing > 0:
        fitted = np.zeros(n_samples, waveform.dtype)
        fitted[missing // 2 : missing // 2 + len(waveform)] = waveform
        return fitted
    energy = np.zeros(len(waveform) + 1)
    np.cumsum(np.square(waveform, dtype=np.float64), out=energy[1:])
    starts = np.arange(0, -missing + 1, grid)
    start = int(starts[np.argmax(energy[starts + n_samples] - energy[starts])])
    return waveform[start : start + n_samples]


def _check_header(stream: SoundStream, limits: AudioLimits) -> None:
    """Raise before anything is decoded when the header alone is beyond a limit."""
    if not 1 <= stream.channels <= limits.max_channels:
        raise MediaContentError(
            f"The sound has {stream.channels} channels, 1 to {limits.max_channels} are accepted.", code="audio_channels"
        )
    if not limits.min_rate <= stream.rate <= limits.max_rate:
        raise MediaContentError(
            f"The sound has {stream.rate} samples a second, {limits.min_rate} to {limits.max_rate} are accepted.", code="audio_rate"
        )
    if (stream.declared_frames or 0) - stream.tolerance > limits.max_seconds * stream.rate:
        raise _too_long(limits)


def _read_all(stream: SoundStream, limits: AudioLimits) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the samples, shape (frames, channels), counting while they are decoded: a small file can hold hours of silence."""
    most = int(limits.max_seconds * stream.rate) + stream.tolerance
    blocks, frames = [], 0
    for block in stream.blocks:
        blocks.append(block)
        frames += len(block)
        if frames > most:
            raise _too_long(limits)
    if frames == 0:
        raise MediaContentError("The sound holds no samples.", code="audio_empty")
    if stream.declared_frames is not None and frames + stream.tolerance < stream.declared_frames:
        raise MediaContentError(f"The header promises {stream.declared_frames} samples, {frames} are there.", code="audio_truncated")
    if frames < limits.min_seconds * stream.rate:
        raise MediaContentError(
            f"The sound lasts {1000 * frames / stream.rate:.1f} ms, at least {1000 * limits.min_seconds:.0f} are needed.",
            code="audio_too_short",
        )
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _check_samples(samples: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    """Return the largest absolute sample; raise audio_not_finite for NaN, infinities and what no recording holds."""
    peak = float(max(samples.max(), -samples.min()))
    if not peak <= MAX_PEAK:  # NaN compares false
        raise MediaContentError(
            f"The sound has samples that are not finite or beyond {MAX_PEAK:g} times full scale.",
            code="audio_not_finite",
            hint="Float files are expected between -1 and 1.",
        )
    return peak


def _warnings(samples: np.ndarray[Any, np.dtype[np.float32]], peak: float) -> tuple[str, ...]:
    if peak < SILENCE_PEAK:
        return ("silence",)
    if peak < CLIPPED_LEVEL:
        return ()
    rescaled = ("rescaled",) if peak > 1.0 else ()
    full = np.count_nonzero(np.abs(samples) >= CLIPPED_LEVEL * max(1.0, peak))
    return ("clipped", *rescaled) if full > CLIPPED_SHARE * samples.size else rescaled


def _too_long(limits: AudioLimits) -> MediaContentError:
    return MediaContentError(f"The sound is longer than {limits.max_seconds:g} seconds.", code="audio_too_long")
