"""The serving features are the training features."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models import quick_features
from models.config import FeatureConfig
from models.errors import ConfigError
from models.features import log_mel, n_frames
from models.frontend import LogMel
from models.quick_features import QuickLogMel
from tests.conftest import tone

CONFIGS = [
    FeatureConfig(clip_seconds=0.5),
    FeatureConfig(clip_seconds=1.0, n_mels=64, hop_ms=10.0),
    FeatureConfig(clip_seconds=0.4, sample_rate=22050, n_mels=128, window_ms=46.0, hop_ms=11.6),
    FeatureConfig(clip_seconds=0.2, sample_rate=8000, n_mels=16, window_ms=200.0, hop_ms=2.0),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_they_equal_numpys_and_torchs(config: FeatureConfig) -> None:
    front = QuickLogMel(config)
    n_samples = round(float(config.clip_seconds) * config.sample_rate)
    noise = np.random.default_rng(0).uniform(-1, 1, n_samples)
    voiced = 0.01 * noise + 0.5 * tone(300, 5.0, rate=config.sample_rate)[:n_samples]
    clips = np.stack([noise, np.zeros(n_samples), voiced]).astype(np.float32)
    found = front(clips)
    assert (found.dtype, found.shape) == (np.float32, (3, config.n_mels, n_frames(config)))
    assert found.shape[1:] == front.shape
    np.testing.assert_allclose(found, log_mel(clips, config), atol=1e-4)
    np.testing.assert_allclose(found, LogMel(config)(torch.from_numpy(clips)).numpy(), atol=1e-4)


@given(arrays.arrays(np.float32, (2, 3200), elements=st.floats(-1, 1, width=32)))
def test_they_equal_numpys_for_any_waveform(clips: np.ndarray) -> None:  # type: ignore[type-arg]
    config = FeatureConfig(clip_seconds=0.2)
    np.testing.assert_allclose(QuickLogMel(config)(clips), log_mel(clips, config), atol=1e-3)


def test_no_clip_leaves_traces_in_the_next() -> None:
    front = QuickLogMel(CONFIGS[0])
    clips = np.random.default_rng(1).uniform(-1, 1, (3, 8000)).astype(np.float32)
    np.testing.assert_array_equal(front(clips)[1:2], front(clips[1:2]))
    assert front(clips[:0]).shape == (0, *front.shape)


def test_an_open_clip_length_is_refused() -> None:
    with pytest.raises(ConfigError):
        QuickLogMel(FeatureConfig())


def test_without_scipy_there_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_features.transform.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ImportError, match="not installed"):
        QuickLogMel(CONFIGS[0])
    monkeypatch.undo()
    quick_features.transform.cache_clear()
