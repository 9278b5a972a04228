"""What every backbone offers: pictures in, one pooled vector a picture out, and names for the layers between."""

from collections.abc import Mapping

import torch
from torch import nn

from models.config import Modality
from models.errors import ConfigError


class Backbone(nn.Module):
    """A convolutional or attention network without its classifier.

    Subclasses set `features` and implement `layer_names` and `forward`. A layer is a submodule; the first one also answers for
    parameters that lie outside every layer, such as a class token or a position embedding.
    """

    features: int  # length of the pooled vector

    def layer_names(self) -> tuple[str, ...]:
        """Return the layers' names from input to output."""
        raise NotImplementedError

    def stage_names(self) -> tuple[str, ...]:
        """Return the coarse stages among the layers; the last one is what a partial transfer leaves out by default."""
        return self.layer_names()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return vectors, shape (batch, features), of pictures, shape (batch, channels, height, width)."""
        raise NotImplementedError

    def layer(self, name: str) -> nn.Module:
        """Return one layer. Raises ConfigError for a name that `layer_names` does not list."""
        self.check_layer(name)
        return self.get_submodule(name)

    def check_layer(self, name: str, *, param: str = "layer") -> None:
        """Raise ConfigError, naming the layers there are, where `name` is none of them."""
        if name not in self.layer_names():
            known = ", ".join(self.layer_names())
            raise ConfigError(f"there is no layer {name!r}; the layers are {known}", code="layer_unknown", param=param)

    def layer_keys(self, name: str) -> tuple[str, ...]:
        """Return the keys in `state_dict()` that belong to one layer, parameters and buffers, in order."""
        self.check_layer(name)
        owners = {key: self._owner(key) for key in self.state_dict()}
        return tuple(key for key, owner in owners.items() if owner == name)

    def build_head(self, classes: int, modality: Modality, source_classes: int | None) -> nn.Module:
        """Return the layers from the pooled vector, shape (batch, features), to logits, shape (batch, classes).

        `source_classes` is for backbones that carry their classifier (see the registry); others raise ConfigError.
        """
        del modality
        if source_classes is not None:
            raise ConfigError("only seed_cnn's speech model stands on an image classifier", code="config_invalid", param="source_classes")
        return nn.Linear(self.features, classes)

    def positions(self) -> Mapping[str, "PositionGrid"]:
        """Return which keys of `state_dict()` are position embeddings, for surgery where the input size changes."""
        return {}

    def _owner(self, key: str) -> str:
        names = self.layer_names()
        # The longest match wins: `blocks.10.x` belongs to `blocks.10`, never to `blocks.1`, and `norm` is not `norm_pre`.
        matches = [name for name in names if key.startswith(name + ".")]
        return max(matches, key=len, default=names[0])


class PositionGrid:
    """The grid of patches that a position embedding stands for."""

    def __init__(self, height: int, width: int, prefix_tokens: int) -> None:
        """`height`, `width` in patches; `prefix_tokens` count the class and distillation tokens before them."""
        self.height = height
        self.width = width
        self.prefix_tokens = prefix_tokens
