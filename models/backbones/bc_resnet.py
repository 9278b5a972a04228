"""BC-ResNet-8: broadcasted residual learning, the strong small network for words (Kim et al. 2021, arXiv 2106.04140, table 1).

Two-dimensional depthwise convolutions along frequency, one-dimensional ones along time on the mean over frequency, whose result is
broadcast back. Made for spectrograms; pictures do as well, their height taken for frequency.
"""

import torch
from torch import nn

from models.backbones.base import Backbone

_SCALE = 8  # the 8 in the name: channels are multiples of it
_SUBBANDS = 5
_STAGES = ((8, 2, 1, 1), (12, 2, 2, 2), (16, 4, 2, 4), (20, 4, 1, 8))  # channels / scale, blocks, stride in frequency, dilation in time
_DROPOUT = 0.1


class SubSpectralNorm(nn.Module):
    """Batch normalization that keeps statistics for each of five bands of frequency (Chang et al. 2021, arXiv 2103.13620)."""

    def __init__(self, channels: int, height: int) -> None:
        """`height` of the maps; one that five doesn't divide is normalized as a whole."""
        super().__init__()
        self.bands = _SUBBANDS if height % _SUBBANDS == 0 else 1
        self.norm = nn.BatchNorm2d(channels * self.bands)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps of the same shape, (batch, channels, height, width)."""
        batch, channels, height, width = maps.shape
        normalized: torch.Tensor = self.norm(maps.reshape(batch, channels * self.bands, height // self.bands, width))
        return normalized.reshape(batch, channels, height, width)


class BroadcastedBlock(nn.Module):
    """relu(x + f2(x) + f1(mean of f2(x) over frequency)); without x and behind a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, height: int, stride: int, dilation: int) -> None:
        """`height` of the maps (batch, in_channels, height, width) that come in; out come (batch, out_channels, ⌈height/stride⌉, width)."""
        super().__init__()
        self.widen: nn.Module = nn.Identity()
        self.keeps_shape = in_channels == out_channels and stride == 1
        if not self.keeps_shape:
            self.widen = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())
        self.frequency = nn.Conv2d(out_channels, out_channels, (3, 1), (stride, 1), (1, 0), groups=out_channels, bias=False)
        self.norm = SubSpectralNorm(out_channels, -(-height // stride))
        self.time = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=out_channels, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 1, bias=False),
            nn.Dropout2d(_DROPOUT),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps, shape (batch, out_channels, ⌈height/stride⌉, width)."""
        local: torch.Tensor = self.norm(self.frequency(self.widen(maps)))
        joined: torch.Tensor = local + self.time(local.mean(dim=2, keepdim=True))
        return (joined + maps if self.keeps_shape else joined).relu()


class BcResnet(Backbone):
    """Stem, four stages and a last convolution, then the mean of every map. 0.3 million parameters."""

    features = 32 * _SCALE

    def __init__(self, in_channels: int, input_size: tuple[int, int]) -> None:
        """`in_channels` 1 or 3; `input_size` is (height, width), the layers depend on the height alone."""
        super().__init__()
        channels, height = 16 * _SCALE, -(-input_size[0] // 2)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 5, (2, 1), padding=2, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )  # fmt: skip
        for number, (width, blocks, stride, dilation) in enumerate(_STAGES, start=1):
            layers: list[nn.Module] = []
            for index in range(blocks):
                step = stride if index == 0 else 1
                layers.append(BroadcastedBlock(channels, width * _SCALE, height, step, dilation))
                channels, height = width * _SCALE, -(-height // step)
            self.add_module(f"stage{number}", nn.Sequential(*layers))
        self.last = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, self.features, 1, bias=False),
            nn.BatchNorm2d(self.features),
            nn.ReLU(),
        )

    def layer_names(self) -> tuple[str, ...]:
        """Return stem, stage1 to stage4, last."""
        return ("stem", *(f"stage{number}" for number in range(1, len(_STAGES) + 1)), "last")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return vectors, shape (batch, 256), of pictures, shape (batch, channels, height, width)."""
        maps = pictures
        for name in self.layer_names():
            maps = self.get_submodule(name)(maps)
        return maps.mean(dim=(-2, -1))
