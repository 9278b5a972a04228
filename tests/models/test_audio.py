"""From bytes to the waveform that the network hears, and the clip that is cut from it."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from models.audio import DEFAULT_LIMITS, AudioLimits, decode_audio, fit_clip, from_pcm16, to_pcm16
from models.errors import MediaContentError, MediaTypeError

Samples = np.ndarray[Any, np.dtype[Any]]


def wav(samples: Samples, rate: int = 16000, subtype: str = "FLOAT", container: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, None, container)
    return file.getvalue()


def sine(rate: int = 16000, seconds: float = 0.5, peak: float = 0.5, hertz: float = 440.0) -> Samples:
    return peak * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def refusal(data: bytes, limits: AudioLimits = DEFAULT_LIMITS) -> str:
    with pytest.raises(MediaContentError) as caught:
        decode_audio(data, limits=limits)
    return caught.value.code


def test_sixteen_bits_at_the_wanted_rate_pass_untouched() -> None:
    stored = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    sound = decode_audio(wav(stored, subtype="PCM_16"))
    assert sound.waveform.dtype == np.float32
    np.testing.assert_array_equal(sound.waveform, stored / 32768)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_rates_are_changed_without_moving_the_sound(rate: int, container: str) -> None:
    sound = decode_audio(wav(sine(rate), rate, "PCM_24", container))
    assert (sound.source_rate, sound.sample_rate, sound.container) == (rate, 16000, container.lower())
    assert sound.duration_seconds == pytest.approx(0.5, abs=1e-3)
    assert len(sound.waveform) == pytest.approx(8000, abs=1)
    np.testing.assert_allclose(sound.waveform[1000:7000], sine()[1000:7000], atol=1e-3)


def test_what_the_new_rate_cannot_hold_is_filtered_out_as_in_scipys_resampler() -> None:
    low, high = sine(48000), sine(48000, hertz=12000.0)
    waveform = decode_audio(wav(low + high, 48000)).waveform
    reference = resample_poly(low + high, 1, 3, window=("kaiser", 12.0))
    np.testing.assert_allclose(waveform[1000:7000], reference[1000:7000], atol=2e-3)


@pytest.mark.parametrize("channels", range(1, 9))
def test_mono_is_the_mean_of_the_channels(channels: int) -> None:
    stored = np.random.default_rng(channels).uniform(-0.9, 0.9, (4000, channels)).astype(np.float32)
    sound = decode_audio(wav(stored))
    assert sound.channels == channels
    np.testing.assert_allclose(sound.waveform, stored.mean(axis=1), atol=0.5 / 32768 + 1e-7)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate", [16000, 22050])
def test_every_sound_ends_on_the_grid_of_sixteen_bits(subtype: str, rate: int) -> None:
    waveform = decode_audio(wav(sine(rate), rate, subtype)).waveform
    np.testing.assert_array_equal(from_pcm16(to_pcm16(waveform)), waveform)


def test_decoding_twice_gives_the_same_bits() -> None:
    data = wav(sine(44100), 44100)
    np.testing.assert_array_equal(decode_audio(data).waveform, decode_audio(data).waveform)


@pytest.mark.parametrize(
    ("samples", "warnings"),
    [
        (sine(), ()),
        (np.zeros(8000), ("silence",)),
        (sine(peak=3.1e-4), ("silence",)),
        (sine(peak=3.3e-4), ()),
        (sine(peak=1.0), ()),
        (np.clip(sine(peak=1.5), -1, 1), ("clipped",)),
        (sine(peak=2.0), ("rescaled",)),
        (2 * np.clip(sine(peak=1.5), -1, 1), ("clipped", "rescaled")),
    ],
)
def test_warnings(samples: Samples, warnings: tuple[str, ...]) -> None:
    assert decode_audio(wav(samples)).warnings == warnings


def test_floats_beyond_full_scale_are_scaled_down_whole() -> None:
    np.testing.assert_allclose(decode_audio(wav(sine(peak=4.0))).waveform, sine(peak=1.0), atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 65.0, -65.0, 1e30])
def test_values_that_no_recording_holds_are_refused(bad: float) -> None:
    samples = sine()
    samples[3000] = bad
    assert refusal(wav(samples)) == "audio_not_finite"
    assert refusal(wav(samples, subtype="DOUBLE")) == "audio_not_finite"


def test_doubles_that_overflow_are_refused() -> None:
    assert refusal(wav(np.array([1e300] * 1000), subtype="DOUBLE")) == "audio_not_finite"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (lambda: b"", "audio_empty"),
        (lambda: wav(np.empty(0)), "audio_empty"),
        (lambda: wav(np.empty(0), container="FLAC", subtype="PCM_16"), "audio_empty"),
        (lambda: wav(np.zeros(319)), "audio_too_short"),
        (lambda: wav(np.zeros(60 * 16000 + 1), subtype="PCM_U8"), "audio_too_long"),
        (lambda: wav(np.zeros(8000 * 61), 8000, "PCM_16", "FLAC"), "audio_too_long"),
        (lambda: wav(np.zeros((1000, 9))), "audio_channels"),
        (lambda: wav(np.zeros(8000), 7999), "audio_rate"),
        (lambda: wav(np.zeros(8000), 192001), "audio_rate"),
        (lambda: wav(np.zeros(8000))[:-400], "audio_truncated"),
        (lambda: bytes(25 * 2**20 + 1), "audio_too_large"),
    ],
)
def test_limits(data: Callable[[], bytes], code: str) -> None:
    assert refusal(data()) == code


def test_the_limits_themselves_are_inside() -> None:
    assert len(decode_audio(wav(np.zeros(320))).waveform) == 320
    assert decode_audio(wav(np.zeros(60 * 8000), 8000, "PCM_U8")).duration_seconds == 60
    data = wav(sine())
    assert decode_audio(data, limits=AudioLimits(max_bytes=len(data)))
    assert refusal(data, AudioLimits(max_bytes=len(data) - 1)) == "audio_too_large"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (replace(DEFAULT_LIMITS, max_seconds=0.4), "audio_too_long"),
        (replace(DEFAULT_LIMITS, min_seconds=0.6), "audio_too_short"),
        (replace(DEFAULT_LIMITS, max_channels=1), "audio_channels"),
        (replace(DEFAULT_LIMITS, max_rate=15999), "audio_rate"),
        (replace(DEFAULT_LIMITS, min_rate=16001), "audio_rate"),
    ],
)
def test_settings_move_the_limits(limits: AudioLimits, code: str) -> None:
    assert refusal(wav(np.stack([sine(), sine()], axis=1)), limits) == code


def test_hours_of_silence_in_a_small_file_stop_at_the_limit() -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8000, 1, "VORBIS", format="OGG") as ogg:  # its header does not tell the length
        for _ in range(600):
            ogg.write(np.zeros(8000))
    data = file.getvalue()
    assert len(data) < 200_000
    assert refusal(data) == "audio_too_long"


def test_bytes_of_no_sound_are_of_another_type() -> None:
    with pytest.raises(MediaTypeError):
        decode_audio(b"hello, world")


def test_rounding_to_sixteen_bits() -> None:
    values = np.array([-2.0, -1.0, -0.5 / 32768, 0.5 / 32768, 1.5 / 32768, 1.0, 2.0], np.float32)
    assert to_pcm16(values).tolist() == [-32768, -32768, 0, 0, 2, 32767, 32767]


def test_sixteen_bits_come_back_exactly() -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(to_pcm16(from_pcm16(every)), every)


CLIPS = st.integers(0, 2**31 - 1).flatmap(
    lambda seed: st.integers(1, 700).map(lambda n: np.random.default_rng(seed).integers(-32768, 32768, n).astype(np.int16))
)


@given(CLIPS, st.integers(1, 700), st.sampled_from([1, 7, 160]))
def test_a_clip_has_the_wanted_length_and_both_types_choose_the_same(samples: Samples, n_samples: int, grid: int) -> None:
    clip = fit_clip(samples, n_samples, grid)
    assert clip.shape == (n_samples,)
    assert clip.dtype == np.int16
    np.testing.assert_array_equal(from_pcm16(clip), fit_clip(from_pcm16(samples), n_samples, grid))


@given(CLIPS, st.integers(1, 700), st.sampled_from([1, 7, 160]))
def test_a_clip_is_the_window_of_the_most_energy(samples: Samples, n_samples: int, grid: int) -> None:
    energy = [
        int(np.square(samples[start : start + n_samples], dtype=np.int64).sum())
        for start in range(0, max(1, len(samples) - n_samples + 1), grid)
    ]
    assert int(np.square(fit_clip(samples, n_samples, grid), dtype=np.int64).sum()) == max(energy)


def test_the_first_of_equal_windows_is_taken() -> None:
    samples = np.zeros(1000, np.int16)
    samples[[300, 800]] = 100
    assert fit_clip(samples, 200).nonzero()[0].tolist() == [140]  # starts are 0, 160, …; 300 is first inside 160 to 359


def test_a_short_sound_is_centred_in_silence() -> None:
    assert fit_clip(np.array([1, 2], np.int16), 5).tolist() == [0, 1, 2, 0, 0]
    assert fit_clip(np.array([1, 2], np.int16), 6).tolist() == [0, 0, 1, 2, 0, 0]
    assert fit_clip(np.array([1, 2], np.int16), 2).tolist() == [1, 2]


def test_a_clip_is_found_where_the_sound_is() -> None:
    samples = np.zeros(32000, np.float32)
    samples[20000:22000] = sine(seconds=0.125)
    assert np.abs(fit_clip(samples, 16000)).sum() == pytest.approx(np.abs(samples).sum())
