"""Backbones by name. A new one is a file, an import and a line in the table."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.backbones.base import Backbone
from models.backbones.bc_resnet import BcResnet
from models.backbones.resnet_tiny import ResnetTiny
from models.backbones.seed_cnn import SeedCnn
from models.backbones.timm_models import PREFIX, TimmBackbone
from models.errors import ConfigError

DEFAULT = "resnet_tiny"


@dataclass(frozen=True)
class BackboneEntry:
    """How a backbone is built and what recipes and transfers have to know of it; `rate_scale` is relative to the optimizer's rate."""

    build: Callable[[int, tuple[int, int]], Backbone]  # (in_channels, (height, width))
    rate_scale: float = 1.0
    carries_classifier: bool = False  # whether a full transfer to speech keeps the image classifier and stands on its outputs


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a backbone, as people choose it for `transfer.until`."""

    name: str
    parameters: int


_BACKBONES: dict[str, BackboneEntry] = {
    "resnet_tiny": BackboneEntry(ResnetTiny),
    "bc_resnet": BackboneEntry(BcResnet),
    # Without batch normalization the default rates of the optimizers are too high by about this much.
    "seed_cnn": BackboneEntry(SeedCnn, rate_scale=0.3, carries_classifier=True),
}
_TIMM_RATE_SCALE = 0.1  # 10 to 100 times the size, usually with published weights that a high rate would wash out


def names() -> tuple[str, ...]:
    """Return the registered architectures; `timm/<name>` exist beside them."""
    return tuple(_BACKBONES)


def exists(name: str) -> bool:
    """Tell whether `name` is a registered architecture or looks like timm's (which is checked when it is built)."""
    return name in _BACKBONES or name.startswith(PREFIX)


def entry(name: str) -> BackboneEntry:
    """Return how `name` is built. Raises ConfigError, with the names there are, for an unknown one."""
    if name.startswith(PREFIX):
        return BackboneEntry(lambda in_channels, input_size: TimmBackbone(name, in_channels, input_size), _TIMM_RATE_SCALE)
    if name not in _BACKBONES:
        hint = f"one of {', '.join(names())} or timm/<name>"
        raise ConfigError(f"there is no architecture {name!r}", code="backbone_unknown", param="base_model", hint=hint)
    return _BACKBONES[name]


def create(name: str, *, in_channels: int, input_size: tuple[int, int]) -> Backbone:
    """Return a backbone with random weights for pictures of (in_channels, height, width). Raises ConfigError."""
    return entry(name).build(in_channels, input_size)


def outline(name: str, *, in_channels: int = 3, input_size: tuple[int, int] = (224, 224)) -> Backbone:
    """Return a backbone without numbers in it (torch's meta device): names and shapes at no cost."""
    with torch.device("meta"):
        return create(name, in_channels=in_channels, input_size=input_size)


def describe(name: str) -> list[LayerInfo]:
    """Return the layers of a backbone for RGB pictures, from input to output, each with its number of parameters."""
    backbone = outline(name)
    sizes = {key: parameter.numel() for key, parameter in backbone.named_parameters()}
    return [LayerInfo(layer, sum(sizes.get(key, 0) for key in backbone.layer_keys(layer))) for layer in backbone.layer_names()]
