"""What taking a part of a sound away tells."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.audio import Waveform
from models.occlusion import BANDS, SEGMENTS, _bands, _edges, _weights, occlude
from tests.conftest import RATE, tone


def hears_a_beep(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sure of label 1 by as much as there is of 2 kHz in the fourth quarter: what decides is known."""
    quarter = waveforms.shape[1] * 3 // 4
    probe = np.exp(2j * np.pi * 2000 * np.arange(waveforms.shape[1] - quarter) / RATE)
    heard = np.abs(waveforms[:, quarter:] @ probe) / len(probe)
    beep = np.clip(0.5 + 2 * heard, 0, 1)
    return np.stack([1 - beep, beep], axis=1).astype(np.float32)


def test_what_decides_is_found() -> None:
    sound: Waveform = np.concatenate([tone(500, 0.75, level=0.3), tone(2000, 0.25, level=0.3)])
    found = occlude(hears_a_beep, sound, RATE)
    assert found.losses.shape == (BANDS, SEGMENTS)
    assert found.probabilities.tolist() == hears_a_beep(sound[None])[0].tolist()
    band, segment = np.unravel_index(found.losses.argmax(), found.losses.shape)
    assert found.edges[band] <= 2000 <= found.edges[band + 1]
    assert segment / SEGMENTS >= 0.7
    assert found.losses.max() > 0.05
    assert np.abs(found.losses[:, : SEGMENTS // 2]).max() < 1e-3  # the loud rest has no say


@pytest.mark.parametrize("n_samples", [3200, 8000, 8001, 16000])
def test_the_parts_together_are_the_sound(n_samples: int) -> None:
    sound = np.random.default_rng(n_samples).uniform(-1, 1, n_samples).astype(np.float32)
    bands, weights = _bands(sound, RATE, _edges(RATE)), _weights(n_samples)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(bands.sum(axis=0), sound, atol=1e-6)
    assert (np.abs(np.diff(weights, axis=1)) < 20 / n_samples).all(), "a cut clicks"
