"""A residual network small enough for two CPU cores (after arXiv 1512.03385, with batch normalization for quick convergence)."""

import torch
from torch import nn

from models.backbones.base import Backbone

_STEM = 24
_STAGES = (32, 64, 128, 192)  # channels of layer1..layer4


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside an identity, or beside a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Maps (batch, in_channels, height, width) to (batch, out_channels, ⌈height/stride⌉, ⌈width/stride⌉)."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps, shape (batch, out_channels, ⌈height/stride⌉, ⌈width/stride⌉)."""
        residual: torch.Tensor = self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu()))
        shortcut: torch.Tensor = self.shortcut(maps)
        return (residual + shortcut).relu()


class ResnetTiny(Backbone):
    """Stem and four stages, each stage halving the picture, then mean and maximum of every last map.

    31 million multiply-adds for 40×51 inputs. The stem keeps the full resolution, which measured better than any other place to spend
    that work; the maximum beside the mean measured better on short words at no cost.
    """

    features = 2 * _STAGES[-1]

    def __init__(self, in_channels: int, input_size: tuple[int, int]) -> None:
        """`in_channels` 1 or 3; any `input_size` does."""
        super().__init__()
        del input_size
        self.stem = nn.Sequential(nn.Conv2d(in_channels, _STEM, 3, padding=1, bias=False), nn.BatchNorm2d(_STEM), nn.ReLU())
        self.layer1 = ResidualBlock(_STEM, _STAGES[0], 2)
        self.layer2 = ResidualBlock(_STAGES[0], _STAGES[1], 2)
        self.layer3 = ResidualBlock(_STAGES[1], _STAGES[2], 2)
        self.layer4 = ResidualBlock(_STAGES[2], _STAGES[3], 2)
        self._initialize()

    def layer_names(self) -> tuple[str, ...]:
        """Return stem, layer1 to layer4."""
        return ("stem", "layer1", "layer2", "layer3", "layer4")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return vectors, shape (batch, features), of pictures, shape (batch, channels, height, width)."""
        maps = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(pictures)))))
        return torch.cat([maps.mean(dim=(-2, -1)), maps.amax(dim=(-2, -1))], dim=1)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
