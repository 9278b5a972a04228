"""The definition of the log-mel features, against torchaudio and against itself."""

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from models.config import FeatureConfig
from models.errors import ConfigError
from models.features import LOG_FLOOR, clip_samples, fft_size, folded_dft, hann_window, hop_samples, log_mel, mel_filters, n_frames, padding
from models.features import window_samples as window_length

CONFIG = FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=1.0)
CONFIGS = {
    "default": CONFIG,
    "8 kHz": FeatureConfig(sample_rate=8000, n_mels=32, clip_seconds=0.5),
    "44.1 kHz": FeatureConfig(sample_rate=44100, n_mels=128, window_ms=40.0, hop_ms=15.0, clip_seconds=0.7),
    "few bands": FeatureConfig(n_mels=16, window_ms=20.0, hop_ms=20.0, clip_seconds=0.33),
    "hop above window": FeatureConfig(n_mels=40, window_ms=10.0, hop_ms=15.0, clip_seconds=0.5),
}


def noise(config: FeatureConfig, batch: int = 2) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (batch, clip_samples(config))).astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_filters_are_torchaudios(name: str) -> None:
    config = CONFIGS[name]
    bins, top = fft_size(config) // 2 + 1, config.sample_rate / 2
    reference = torchaudio.functional.melscale_fbanks(bins, 0.0, top, config.n_mels, config.sample_rate, None, "htk").T
    filters = torch.from_numpy(mel_filters(config).copy())
    filled = reference.sum(dim=1) > 0  # torchaudio leaves bands between two bins empty, and warns
    assert filled.float().mean() > 0.9
    torch.testing.assert_close(filters[filled], reference[filled], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_features_are_torchaudios(name: str) -> None:
    config = CONFIGS[name]
    transform = torchaudio.transforms.MelSpectrogram(
        config.sample_rate,
        n_fft=fft_size(config),
        win_length=window_length(config),
        hop_length=hop_samples(config),
        n_mels=config.n_mels,
        pad_mode="constant",
    )
    reference = torch.log(transform(torch.from_numpy(noise(config))) + LOG_FLOOR)
    np.testing.assert_allclose(log_mel(noise(config), config), reference, atol=1e-4)


@given(
    st.builds(
        FeatureConfig,
        sample_rate=st.integers(8000, 48000),
        n_mels=st.integers(16, 256),
        window_ms=st.floats(5, 200),
        hop_ms=st.floats(2, 100),
        clip_seconds=st.floats(0.2, 2),
    )
)
def test_sizes_fit_together(config: FeatureConfig) -> None:
    window = window_length(config)
    assert window % 2 == 0
    assert padding(config) * 2 == window <= fft_size(config) < 2 * window
    assert fft_size(config).bit_count() == 1
    assert window / config.sample_rate == pytest.approx(config.window_ms / 1000, abs=1.01 / config.sample_rate)
    assert hop_samples(config) / config.sample_rate == pytest.approx(config.hop_ms / 1000, abs=0.51 / config.sample_rate)
    padded = clip_samples(config) + 2 * padding(config)
    assert n_frames(config) == (padded - window) // hop_samples(config) + 1


@pytest.mark.parametrize("n_mels", [16, 64, 128, 256])
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_no_band_is_deaf(n_mels: int, rate: int) -> None:
    filters = mel_filters(FeatureConfig(sample_rate=rate, n_mels=n_mels, window_ms=5.0))
    assert filters.shape == (n_mels, fft_size(FeatureConfig(sample_rate=rate, window_ms=5.0)) // 2 + 1)
    assert (filters >= 0).all()
    assert (filters.sum(axis=1) > 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_shape_and_silence(name: str) -> None:
    config = CONFIGS[name]
    features = log_mel(np.zeros((3, clip_samples(config)), np.float32), config)
    assert features.shape == (3, config.n_mels, n_frames(config))
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, np.log(np.float32(LOG_FLOOR)))


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_lights_the_band_of_its_frequency(hertz: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32)[None]
    loudest = int(log_mel(tone, CONFIG)[0].mean(axis=1).argmax())
    mel, top = (2595 * np.log10(1 + f / 700) for f in (hertz, 8000))
    assert loudest == pytest.approx(mel / top * 65 - 1, abs=1)


def test_a_frame_is_centred_at_its_hop() -> None:
    click = np.zeros((1, 16000), np.float32)
    click[0, 50 * 160] = 1
    energy = log_mel(click, CONFIG)[0].sum(axis=0)
    assert energy.argmax() == 50
    assert energy[49] == pytest.approx(energy[51], rel=1e-4)


def test_twice_as_loud_is_four_times_the_energy() -> None:
    waveforms = noise(CONFIG)
    np.testing.assert_allclose(log_mel(waveforms, CONFIG) - log_mel(waveforms / 2, CONFIG), np.log(4), atol=0.01)


def test_the_rounding_of_a_quiet_recording_stays_under_the_floor() -> None:
    dither = np.random.default_rng(0).integers(-1, 2, (1, 16000)).astype(np.float32) / 32768
    assert np.abs(log_mel(dither, CONFIG) - np.log(LOG_FLOOR)).max() < 0.3


def test_features_repeat_bit_for_bit_alone_or_in_a_batch() -> None:
    waveforms = noise(CONFIG, 5)
    together = log_mel(waveforms, CONFIG)
    np.testing.assert_array_equal(together, log_mel(waveforms, CONFIG))
    np.testing.assert_allclose(together[3:4], log_mel(waveforms[3:4], CONFIG), atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_folded_transform_is_the_windowed_fourier_transform(name: str) -> None:
    config = CONFIGS[name]
    frame = np.random.default_rng(1).uniform(-1, 1, window_length(config))
    half = window_length(config) // 2
    right, left = frame[half:], frame[1 : half + 1][::-1]
    cosines, sines = folded_dft(config)
    power = np.square((right + left) @ cosines) + np.square((right - left) @ sines)
    expected = np.square(np.abs(np.fft.rfft(frame * hann_window(config), n=fft_size(config))))
    np.testing.assert_allclose(power, expected, rtol=1e-3, atol=1e-3)


def test_constants_are_shared_and_nobody_can_change_them() -> None:
    for constant in (hann_window(CONFIG), mel_filters(CONFIG), *folded_dft(CONFIG)):
        with pytest.raises(ValueError, match="read-only"):
            constant[...] = 0
    assert mel_filters(CONFIG) is mel_filters(FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=1.0))


def test_the_window_is_a_periodic_hann() -> None:
    torch.testing.assert_close(torch.from_numpy(hann_window(CONFIG).copy()), torch.hann_window(400))


def test_an_open_length_has_no_samples() -> None:
    with pytest.raises(ConfigError) as caught:
        clip_samples(FeatureConfig())
    assert caught.value.param == "features.clip_seconds"
