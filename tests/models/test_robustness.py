"""Worse recordings: each change is what its name says, and the table is bounded and honest."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import robustness
from models.config import FeatureConfig, Modality, NetworkConfig, Normalization
from models.network import Network, build_network
from models.robustness import CONDITIONS, at_speed, cut_off, measure_robustness, over_telephone, with_gain, with_noise

torch.set_num_threads(1)
RATE = 16000
N = 4000
FEATURES = FeatureConfig(n_mels=16, hop_ms=20.0, clip_seconds=0.25, image_size=28)


class Clips:
    """Clips as the trainer holds them."""

    def __init__(self, clips: NDArray[np.int16]) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def batch(self, indices: NDArray[np.int64], /) -> NDArray[np.int16]:
        return self._clips[indices]


def network_of(modality: Modality = "audio") -> Network:
    count = 16 if modality == "audio" else 3
    statistics = Normalization(mean=(0.0,) * count, std=(3.0,) * count)
    config = NetworkConfig(
        modality=modality, architecture="seed_cnn", labels=("a", "b"), features=FEATURES, normalization=statistics
    )  # fmt: skip
    return build_network(config).eval()


def sine(hertz: float, level: float = 0.5) -> torch.Tensor:
    return level * torch.sin(2 * torch.pi * hertz * torch.arange(N) / RATE)[None]


def dominant(clips: torch.Tensor) -> float:
    return float(torch.fft.rfft(clips[0]).abs().argmax()) * RATE / N


def test_noise_is_so_far_below_the_sound() -> None:
    for snr in (20, 0):
        noisy = with_noise(sine(440, 0.2), snr, torch.Generator().manual_seed(0))
        added = noisy - sine(440, 0.2)
        assert float(20 * torch.log10(sine(440, 0.2).std() / added.std())) == pytest.approx(snr, abs=0.5)


def test_loud_sounds_are_clipped_and_soft_ones_are_not() -> None:
    assert float(with_gain(sine(440), 12).max()) == 1.0
    torch.testing.assert_close(with_gain(sine(440), -12), sine(440) * 0.2511886)


def test_speed_moves_the_pitch_and_keeps_the_length() -> None:
    for factor in (0.9, 1.1):
        changed = at_speed(sine(1000), factor)
        assert changed.shape == (1, N)
        assert dominant(changed) == pytest.approx(1000 * factor, abs=10)


def test_a_telephone_passes_its_band_alone() -> None:
    for hertz, passes in ((100, False), (1000, True), (3000, True), (5000, False)):
        left = float(over_telephone(sine(hertz), RATE).square().sum() / sine(hertz).square().sum())
        assert left == pytest.approx(float(passes), abs=0.02)


def test_what_is_cut_off_is_the_end() -> None:
    rising = torch.linspace(0, 1, N)[None]
    cut = cut_off(rising)
    assert cut.shape == (1, N)
    torch.testing.assert_close(cut[:, N // 8 : N // 8 + 3 * N // 4], rising[:, : 3 * N // 4])
    assert not cut[:, : N // 8].any()
    assert not cut[:, N // 8 + 3 * N // 4 :].any()


def test_the_table_has_a_row_a_condition_and_is_repeatable() -> None:
    random = np.random.default_rng(0)
    items = Clips((random.normal(0, 3000, (60, N))).astype(np.int16))
    network, truth = network_of(), random.integers(0, 2, 60)
    rows = measure_robustness(network, items, np.arange(10, 50), truth)
    assert [row["name"] for row in rows] == [condition.name for condition in CONDITIONS]
    assert len({row["name"] for row in rows}) == len(rows)
    assert {row["n"] for row in rows} == {40}
    assert rows == measure_robustness(network, items, np.arange(10, 50), truth)


def test_its_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    items = Clips(np.random.default_rng(0).integers(-3000, 3000, (600, N)).astype(np.int16))
    monkeypatch.setattr(robustness, "_SECONDS", 1e-9)
    rows = measure_robustness(network_of(), items, np.arange(600), np.zeros(600, np.int64))
    assert rows[0]["n"] == robustness.MOST_ITEMS
    assert {row["n"] for row in rows[1:]} == {robustness.LEAST_ITEMS}


def test_too_few_sounds_and_pictures_have_none() -> None:
    items = Clips(np.zeros((30, N), np.int16))
    assert measure_robustness(network_of(), items, np.arange(robustness.LEAST_ITEMS - 1), np.zeros(30, np.int64)) == []
    assert measure_robustness(network_of("image"), items, np.arange(30), np.zeros(30, np.int64)) == []
