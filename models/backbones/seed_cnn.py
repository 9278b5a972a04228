"""The two-layer convolutional network this project began with, and its speech model.

    picture → conv1 3×3, 64 → ReLU → 2×2 max → conv2 3×3, 128 → ReLU → 2×2 max → mean over 8×8 cells → fc 8192→1024 → ReLU → classifier

The speech model that carries all of it stands on the image classifier's outputs (one logit an image class); one that carries less
stands on the 1024 features. Both go 512 → 128 → words.
"""

import torch
from torch import nn

from models.backbones.base import Backbone
from models.config import Modality

_GRID = 8  # cells a side after pooling; 8 · 8 · 128 = the 8192 inputs of fc


def pooling_matrix(size: int, cells: int) -> torch.Tensor:
    """Return the matrix, shape (cells, size), whose rows average `size` values into `cells` stretches, float32.

    Cell i covers floor(i·size/cells) up to ceil((i+1)·size/cells), as torch's adaptive average pooling does, which ONNX can't express
    for sizes that are no multiple of the cells; as a matrix it is exact and works for any size, smaller ones included.
    """
    cell = torch.arange(cells)
    begin = torch.div(cell * size, cells, rounding_mode="floor")
    end = -torch.div(-(cell + 1) * size, cells, rounding_mode="floor")
    position = torch.arange(size)
    inside = (position >= begin[:, None]) & (position < end[:, None])
    return inside.float() / inside.sum(dim=1, keepdim=True)


def pool_to_grid(maps: torch.Tensor, cells: int) -> torch.Tensor:
    """Return the means, shape (batch, channels, cells, cells), of maps, shape (batch, channels, height, width)."""
    rows = pooling_matrix(maps.shape[-2], cells).to(maps)
    columns = pooling_matrix(maps.shape[-1], cells).to(maps)
    return rows @ maps @ columns.T


class SeedCnn(Backbone):
    """See the module's picture. 8.5 million parameters, nearly all of them in `fc`."""

    features = 1024

    def __init__(self, in_channels: int, input_size: tuple[int, int]) -> None:
        """`in_channels` 1 or 3; any `input_size` of 4×4 and more does."""
        super().__init__()
        del input_size
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 128, 3, padding=1)
        self.fc = nn.Linear(128 * _GRID * _GRID, self.features)

    def layer_names(self) -> tuple[str, ...]:
        """Return conv1, conv2, fc."""
        return ("conv1", "conv2", "fc")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return vectors, shape (batch, 1024), of pictures, shape (batch, channels, height, width)."""
        maps = nn.functional.max_pool2d(self.conv1(pictures).relu(), 2)
        maps = nn.functional.max_pool2d(self.conv2(maps).relu(), 2)
        vectors: torch.Tensor = self.fc(pool_to_grid(maps, _GRID).flatten(1))
        return vectors.relu()

    def build_head(self, classes: int, modality: Modality, source_classes: int | None) -> nn.Module:
        """Return the classifier (pictures) or the speech head (sounds): (batch, 1024) → (batch, classes)."""
        if modality == "image":
            return super().build_head(classes, modality, source_classes)
        inputs = self.features if source_classes is None else source_classes
        speech = nn.Sequential(nn.Linear(inputs, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, classes))
        if source_classes is None:
            return speech
        return nn.Sequential(nn.Linear(self.features, source_classes), speech)
