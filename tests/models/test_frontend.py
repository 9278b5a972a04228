"""The torch twins of the log-mel features agree with the numpy one."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import FeatureConfig
from models.features import clip_samples, log_mel, n_frames
from models.frontend import LogMel

CONFIGS = [
    FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=1.0),
    FeatureConfig(clip_seconds=1.0),
    FeatureConfig(sample_rate=8000, n_mels=32, clip_seconds=0.5),
    FeatureConfig(sample_rate=44100, n_mels=128, window_ms=40.0, hop_ms=15.0, clip_seconds=0.3),
    FeatureConfig(n_mels=40, window_ms=10.0, hop_ms=15.0, clip_seconds=0.5),
    FeatureConfig(n_mels=16, window_ms=25.0, hop_ms=7.3, clip_seconds=0.2),
]


Waveforms = np.ndarray[Any, np.dtype[np.float32]]


def sounds(n_samples: int) -> Waveforms:
    """Noise, noise over a tone, a click, silence and a whisper, on the grid of 16 bits; shape (5, n_samples)."""
    random = np.random.default_rng(0)
    click = np.zeros(n_samples)
    click[n_samples // 2] = 1
    tone, whisper = tones(n_samples)[0] / 2 + random.normal(0, 0.05, n_samples), random.normal(0, 3e-4, n_samples)
    rows = [random.uniform(-0.9, 0.9, n_samples), tone, click, np.zeros(n_samples), whisper]
    return (np.rint(np.stack(rows) * 32767) / 32768).astype(np.float32)


def tones(n_samples: int) -> Waveforms:
    """A full-scale tone, shape (1, n_samples)."""
    return np.sin(0.3 * np.arange(n_samples)).astype(np.float32)[None]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("exportable", [False, True])
def test_twins(config: FeatureConfig, exportable: bool) -> None:
    waveforms = sounds(clip_samples(config))
    features = LogMel(config, exportable=exportable)(torch.from_numpy(waveforms))
    assert features.shape == (5, config.n_mels, n_frames(config))
    np.testing.assert_allclose(features, log_mel(waveforms, config), atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("exportable", [False, True])
def test_twins_of_a_pure_tone(config: FeatureConfig, exportable: bool) -> None:
    """The worst case: in bands 100 dB under the tone each transform hears its own rounding of 24 bits, held down by the floor alone."""
    waveforms = tones(clip_samples(config))
    features, expected = LogMel(config, exportable=exportable)(torch.from_numpy(waveforms)), log_mel(waveforms, config)
    np.testing.assert_allclose(features, expected, atol=5e-3)
    loud = expected > expected.max() - 12  # 52 dB
    np.testing.assert_allclose(features[torch.from_numpy(loud)], expected[loud], atol=1e-4)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.builds(
        FeatureConfig,
        sample_rate=st.integers(8000, 24000),
        n_mels=st.integers(16, 80),
        window_ms=st.floats(5, 50),
        hop_ms=st.floats(2, 50),
        clip_seconds=st.floats(0.2, 0.5),
    ),
    st.integers(-300, 300),
)
def test_twins_of_any_configuration_and_length(config: FeatureConfig, more: int) -> None:
    waveforms = sounds(clip_samples(config) + more)
    expected = log_mel(waveforms, config)
    for exportable in (False, True):
        np.testing.assert_allclose(LogMel(config, exportable=exportable)(torch.from_numpy(waveforms)), expected, atol=2e-4)


@pytest.mark.parametrize("exportable", [False, True])
def test_autocast_does_not_coarsen_the_features(exportable: bool) -> None:
    front, waveforms = LogMel(CONFIGS[0], exportable=exportable), torch.from_numpy(sounds(16000))
    expected = front(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        features = front(waveforms)
        from_half = front(waveforms.bfloat16())
    assert features.dtype == from_half.dtype == torch.float32
    assert torch.equal(features, expected)


def test_nothing_of_it_is_a_weight() -> None:
    for exportable in (False, True):
        front = LogMel(CONFIGS[0], exportable=exportable)
        assert not front.state_dict()
        assert not list(front.parameters())


def test_gradients_reach_the_waveform() -> None:
    for exportable in (False, True):
        waveforms = torch.from_numpy(sounds(16000)).requires_grad_()
        LogMel(CONFIGS[0], exportable=exportable)(waveforms).sum().backward()
        assert waveforms.grad is not None
        assert torch.isfinite(waveforms.grad).all()


def test_the_exportable_twin_has_no_complex_number_and_any_batch() -> None:
    front = LogMel(CONFIGS[0], exportable=True)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(front, (torch.from_numpy(sounds(16000)),), dynamic_shapes=({0: batch},))
    modules = [module for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    operations = {str(node.target) for module in modules for node in module.graph.nodes if node.op == "call_function"}
    assert "aten.matmul.default" in operations
    assert not {name for name in operations if "fft" in name or "complex" in name}
    single = torch.from_numpy(sounds(16000)[:1])
    torch.testing.assert_close(program.module()(single), front(single))
