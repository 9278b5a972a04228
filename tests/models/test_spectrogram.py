"""Pictures of sounds for people."""

import numpy as np
import pytest

from models.config import FeatureConfig
from models.features import log_mel
from models.spectrogram import BANDS, MOST_FRAMES, spectrogram_of
from tests.conftest import RATE, tone


def test_a_tone_is_a_bright_line_where_it_belongs() -> None:
    low, high = (spectrogram_of(tone(hertz, 1.0), RATE).levels for hertz in (300, 3000))
    assert low.shape == high.shape == (BANDS, 101)
    for levels in (low, high):
        rows = levels[:, 5:-5].argmax(axis=0)
        assert len(set(rows.tolist())) == 1
        assert levels.max() == 255
    assert low[:, 50].argmax() < BANDS / 4 < BANDS / 2 < high[:, 50].argmax()


def test_silence_is_dark_and_a_faint_noise_not_bright() -> None:
    assert not spectrogram_of(np.zeros(RATE, np.float32), RATE).levels.any()
    faint = np.random.default_rng(0).normal(0, 1e-5, RATE).astype(np.float32)
    assert spectrogram_of(faint, RATE).levels.max() < 128


@pytest.mark.parametrize("n_samples", [1, 2, 159, 160, 161, 5000])
def test_any_length_has_a_picture(n_samples: int) -> None:
    found = spectrogram_of(np.full(n_samples, 0.5, np.float32), RATE)
    assert found.levels.shape == (BANDS, 1 + n_samples // 160)
    assert found.seconds == n_samples / RATE


def test_a_long_sound_keeps_its_short_moments() -> None:
    """Columns show the loudest of their frames, computed piece by piece as if at once."""
    noise = np.random.default_rng(1).normal(0, 0.1, 20 * RATE).astype(np.float32)
    noise[12 * RATE : 12 * RATE + 200] = 0.9  # a click of 12 ms
    found = spectrogram_of(noise, RATE)
    assert found.levels.shape == (BANDS, MOST_FRAMES)
    assert found.levels[0].argmax() == pytest.approx(12 / 20 * MOST_FRAMES, abs=2)
    features = log_mel(noise[None], FeatureConfig(n_mels=BANDS, hop_ms=10))[0]
    loudest = np.maximum.reduceat(features, np.arange(MOST_FRAMES) * 2001 // MOST_FRAMES, axis=1)
    expected = np.rint((loudest - np.log(1e-5)) * 255 / (loudest.max() - np.log(1e-5)))
    np.testing.assert_allclose(found.levels, expected, atol=1)
