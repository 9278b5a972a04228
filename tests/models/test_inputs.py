"""From stored items to network inputs."""

from typing import Any

import numpy as np
import torch

from models.config import AugmentationConfig, FeatureConfig
from models.features import log_mel
from models.inputs import DeviceItems, Inputs, compute_normalization, to_floats, with_unknowns
from tests.conftest import NO_AUGMENTATION

FEATURES = FeatureConfig(sample_rate=8000, n_mels=16, hop_ms=20.0, clip_seconds=0.25, image_size=16)


class ArrayItems:
    """Prepared items that lie in memory."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self.array[indices]


def noise(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).integers(-20000, 20000, (count, 2000)).astype(np.int16)


def pictures(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)


def test_clips_become_the_features_that_serving_computes() -> None:
    clips = noise(5)
    got = Inputs(ArrayItems(clips), "audio", FEATURES).clean(np.array([3, 1]))
    torch.testing.assert_close(got, torch.from_numpy(log_mel(clips[[3, 1]].astype(np.float32) / 32768, FEATURES)), atol=1e-4, rtol=1e-4)


def test_pictures_become_channels_first_between_nought_and_one() -> None:
    stored = pictures(4)
    got = Inputs(ArrayItems(stored), "image", FEATURES).clean(np.array([2]))
    assert got.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), stored[2] / 255, atol=1e-6)


def test_augmentation_that_is_off_changes_nothing() -> None:
    for items, modality in ((noise(3), "audio"), (pictures(3), "image")):
        inputs = Inputs(ArrayItems(items), modality, FEATURES)
        torch.testing.assert_close(inputs.augmented(np.arange(3), NO_AUGMENTATION, torch.Generator()), inputs.clean(np.arange(3)))


def test_augmentation_draws_from_its_generator_alone() -> None:
    inputs = Inputs(ArrayItems(noise(3)), "audio", FEATURES)
    one, two, three = (inputs.augmented(np.arange(3), AugmentationConfig(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_items_on_the_cpu_are_gathered_in_the_order_asked_for() -> None:
    stored = noise(6)
    got = DeviceItems(ArrayItems(stored), torch.device("cpu")).batch(np.array([5, 0, 5]))
    assert got.dtype == torch.int16
    np.testing.assert_array_equal(got.numpy(), stored[[5, 0, 5]])


def test_loudest_and_darkest_values() -> None:
    assert to_floats(torch.tensor([[-32768, 32767]], dtype=torch.int16)).tolist() == [[-1.0, 32767 / 32768]]
    assert to_floats(torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)).flatten().tolist() == [1.0] * 3


def test_normalization_is_that_of_the_training_items() -> None:
    stored, train = pictures(20), np.arange(3, 17)
    pixels = stored[train].astype(np.float64) / 255
    got = compute_normalization(ArrayItems(stored), train, "image", FEATURES)
    assert np.allclose(got.mean, pixels.mean((0, 1, 2)), atol=1e-6)
    assert np.allclose(got.std, pixels.std((0, 1, 2)), atol=1e-6)


def test_normalization_of_sounds_has_a_number_a_band_and_a_floor() -> None:
    silence = ArrayItems(np.zeros((4, 2000), np.int16))
    got = compute_normalization(silence, np.arange(4), "audio", FEATURES)
    assert len(got.mean) == 16
    assert got.std == (0.5,) * 16


def test_unknown_sounds_are_seven_for_eight_clips_and_their_target_is_every_label() -> None:
    inputs = Inputs(ArrayItems(noise(16)), "audio", FEATURES)
    truth = torch.arange(16) % 3
    draw = lambda seed: inputs.unknown(np.arange(16), truth, AugmentationConfig(), torch.Generator().manual_seed(seed))  # noqa: E731 - twice below
    unknown = draw(1)
    known = inputs.clean(np.arange(16))
    assert unknown.shape == (14, *known.shape[1:])
    assert torch.isfinite(unknown).all()
    assert torch.equal(unknown, draw(1))
    assert not torch.equal(unknown, draw(2))
    joined, targets = with_unknowns(known, torch.eye(3)[truth], unknown)
    assert torch.equal(joined[:16], known)
    assert torch.equal(targets[16:], torch.full((14, 3), 1 / 3))
