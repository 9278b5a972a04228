"""BC-ResNet-8: its size, its shapes, its norm by bands."""

import torch

from models.backbones.bc_resnet import BcResnet, SubSpectralNorm


def test_it_has_the_size_of_the_paper() -> None:
    """321 k with a classifier of 12 labels (arXiv 2106.04140, table 1); ours goes without classifier."""
    assert 310_000 < sum(parameter.numel() for parameter in BcResnet(1, (40, 51)).parameters()) < 325_000


def test_any_size_of_spectrogram_and_picture_does() -> None:
    for channels, size in ((1, (40, 51)), (1, (64, 101)), (3, (33, 47))):
        assert BcResnet(channels, size).eval()(torch.randn(2, channels, *size)).shape == (2, 256)


def test_each_band_has_statistics_of_its_own() -> None:
    norm = SubSpectralNorm(3, 10).train()
    maps = torch.randn(8, 3, 10, 7) * torch.arange(1, 6).repeat_interleave(2)[None, None, :, None]
    bands = norm(maps).reshape(8, 3, 5, 2, 7)
    assert torch.allclose(bands.std(dim=(0, 3, 4)), torch.ones(3, 5), atol=0.02)


def test_a_height_that_five_does_not_divide_is_one_band() -> None:
    assert SubSpectralNorm(3, 32).bands == 1
