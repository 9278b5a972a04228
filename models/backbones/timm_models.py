"""Any timm architecture as a backbone, and its published weights from a directory or the Hugging Face hub, safetensors only.

timm takes several seconds to import and most jobs need none of it, so it is imported where it is used.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models.backbones.base import Backbone, PositionGrid
from models.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

PREFIX = "timm/"
_FILE = "model.safetensors"  # what timm's repositories on the hub call it
_HUB_SECONDS = 5.0  # a hub that takes longer to say whether it has a file counts as out of reach
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*(\.[a-z0-9_]+)?")
_MISFITS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError)  # timm's ways to refuse a size
# Children that hold a sequence of layers: named one level deeper, so that `until` can cut between them.
_CONTAINERS = ("blocks", "stages", "layers", "features")


class TimmBackbone(Backbone):
    """A timm model without its classifier, its layers named as timm names them."""

    model: Any  # timm types no attribute beyond nn.Module's

    def __init__(self, name: str, in_channels: int, input_size: tuple[int, int], *, model: nn.Module | None = None) -> None:
        """Build `timm/<name>` with random weights for (in_channels, height, width), or around a ready model without classifier.

        Raises ConfigError where it can't be built for that size.
        """
        super().__init__()
        self.model = model or _create(name, in_channels, input_size)
        self.features = _count_features(self.model, name, in_channels, input_size)
        self._layers = tuple(_layer_names(self.model))

    def layer_names(self) -> tuple[str, ...]:
        """Return timm's names of all children that hold weights, such as conv1, bn1, layer1 or patch_embed, blocks.0, blocks.1."""
        return self._layers

    def stage_names(self) -> tuple[str, ...]:
        """Return the layers that timm's feature_info counts as stages; all layers where it names none of them."""
        described = {str(info["module"]) for info in getattr(self.model, "feature_info", [])}
        return tuple(name for name in self.layer_names() if name in described) or self.layer_names()

    def layer(self, name: str) -> nn.Module:
        """Return one layer. Raises ConfigError for a name that `layer_names` does not list."""
        self.check_layer(name)
        return super().get_submodule(f"model.{name}")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return vectors, shape (batch, features), of pictures, shape (batch, channels, height, width)."""
        vectors: torch.Tensor = self.model(pictures)
        return vectors

    def positions(self) -> dict[str, PositionGrid]:
        """Return the grid of `pos_embed`, where the model has one over patches."""
        embed = getattr(self.model, "patch_embed", None)
        grid = getattr(embed, "grid_size", None)
        if grid is None or not isinstance(getattr(self.model, "pos_embed", None), nn.Parameter):
            return {}
        height, width = grid
        tokens = self.model.pos_embed.shape[1]
        return {"model.pos_embed": PositionGrid(height, width, tokens - height * width)}

    def _owner(self, key: str) -> str:
        return super()._owner(key.removeprefix("model."))


def find_weights(name: str, *, directory: Path | None, offline: bool) -> Path:
    """Return the safetensors file of `timm/<name>`: `<name>.safetensors` in `directory`, else the hub's cache, else the hub.

    Raises ConfigError for an unknown name, UnavailableError (weights_unavailable) where the file is in no place that may be asked.
    """
    short = _short_name(name)
    if directory is not None and (directory / f"{short}.safetensors").is_file():
        return directory / f"{short}.safetensors"
    from httpx2 import HTTPError  # noqa: PLC0415 - see the module's docstring; it is what the hub's client raises
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # noqa: PLC0415

    repository = _hub_repository(short)
    if repository is None:
        raise _unavailable(name, "timm publishes none for it")
    try:
        # The cache first, so that a machine that has the file asks nobody.
        return Path(hf_hub_download(repository, _FILE, local_files_only=True))
    except OSError as error:
        if offline:
            raise _unavailable(name, "they are not in the cache and the hub may not be asked (HF_HUB_OFFLINE)") from error
    try:
        # The download tries again for half a minute where nobody answers; this question doesn't.
        get_hf_file_metadata(hf_hub_url(repository, _FILE), timeout=_HUB_SECONDS)
        return Path(hf_hub_download(repository, _FILE))
    except (OSError, HTTPError) as error:
        raise _unavailable(name, "the hub did not give them") from error


def load_published(name: str, weights: Path) -> TimmBackbone:
    """Return `timm/<name>` as published: RGB, its own input size, the weights of a safetensors file (see `find_weights`).

    Raises UnavailableError (weights_unavailable) where the file is damaged or of another network.
    """
    import timm  # noqa: PLC0415
    from safetensors import SafetensorError  # noqa: PLC0415

    try:
        # With its classifier, so that timm compares every key; custom_load would have it expect an .npz file.
        model: Any = timm.create_model(
            _short_name(name), pretrained=True, pretrained_cfg_overlay={"file": str(weights), "custom_load": False}
        )
    except (OSError, SafetensorError, *_MISFITS) as error:
        raise UnavailableError(
            f"the weights in {weights.name} are damaged or not those of {name}",
            code="weights_unavailable",
            param="base_model",
            hint="replace the file with the one that timm publishes for this name",
        ) from error
    model.reset_classifier(0)
    return TimmBackbone(name, 3, published_input(name), model=model)


def published_input(name: str) -> tuple[int, int]:
    """Return the height and width, pixels, that the published weights were trained at."""
    config = _published_config(_short_name(name))
    return (224, 224) if config is None else (int(config.input_size[1]), int(config.input_size[2]))


def published_normalization(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation a channel, RGB in 0..1, that the published weights expect."""
    config = _published_config(_short_name(name))
    return ((0.5,) * 3, (0.5,) * 3) if config is None else (tuple(config.mean), tuple(config.std))


def _create(name: str, in_channels: int, input_size: tuple[int, int]) -> nn.Module:
    import timm  # noqa: PLC0415

    short = _short_name(name)
    size: dict[str, Any] = {"img_size": input_size} if _takes_size(short) else {}
    try:
        return timm.create_model(short, pretrained=False, in_chans=in_channels, num_classes=0, **size)
    except _MISFITS as error:
        raise _input_error(name, in_channels, input_size) from error


@torch.no_grad()
def _count_features(model: nn.Module, name: str, in_channels: int, input_size: tuple[int, int]) -> int:
    """Return the length of the pooled vector, seen in one pass: some architectures are built for sizes that they then refuse."""
    weight = next(model.parameters())
    model.eval()
    try:
        vectors: torch.Tensor = model(torch.zeros(1, in_channels, *input_size, device=weight.device))
    except _MISFITS as error:
        raise _input_error(name, in_channels, input_size) from error
    model.train()
    return vectors.shape[1]


def _input_error(name: str, in_channels: int, input_size: tuple[int, int]) -> ConfigError:
    return ConfigError(
        f"{name} can't take inputs of {in_channels} channels, {input_size[0]} by {input_size[1]}",
        code="backbone_input",
        param="base_model",
        hint="choose a convolutional architecture, or other features",
    )


def _takes_size(short: str) -> bool:
    """Tell whether the architecture is built for one input size (attention with positions) or takes any (convolutions)."""
    config = _published_config(short)
    return bool(config is not None and config.fixed_input_size)


def _short_name(name: str) -> str:
    """Return what follows `timm/`. Raises ConfigError unless timm lists it; nothing else ever becomes part of a path."""
    import timm  # noqa: PLC0415

    short = name.removeprefix(PREFIX)
    if not _NAME.fullmatch(short) or not timm.is_model(short):
        near = ", ".join(PREFIX + model for model in timm.list_models(f"{short[:6]}*")[:5]) if _NAME.fullmatch(short) else ""
        hint = f"near it: {near}" if near else None
        raise ConfigError(f"timm has no architecture {short!r}", code="backbone_unknown", param="base_model", hint=hint)
    if "." in short and _published_config(short) is None:
        hint = "leave out what follows the dot"
        raise ConfigError(f"timm has no weights {short!r}", code="backbone_unknown", param="base_model", hint=hint)
    return short


def _published_config(short: str) -> "PretrainedCfg | None":
    from timm.models import get_pretrained_cfg  # noqa: PLC0415

    try:
        return get_pretrained_cfg(short, allow_unregistered=False)
    except RuntimeError:  # timm's word for an unknown tag
        return None


def _hub_repository(short: str) -> str | None:
    config = _published_config(short)
    return str(config.hf_hub_id) if config is not None and config.hf_hub_id else None


def _unavailable(name: str, reason: str) -> UnavailableError:
    short = name.removeprefix(PREFIX)
    return UnavailableError(
        f"the weights of {name} can't be had: {reason}",
        code="weights_unavailable",
        param="base_model",
        hint=f"put {short}.safetensors into the directory of timm weights (SYNESTHESIA_TIMM_DIR), let this machine reach the hub, "
        "or ask for transfer.mode none, which needs the architecture alone",
    )


def _layer_names(model: nn.Module) -> Iterator[str]:
    for name, child in model.named_children():
        parts = list(child.named_children()) if name in _CONTAINERS else []
        named = [(f"{name}.{part}", module) for part, module in parts] if len(parts) > 1 else [(name, child)]
        yield from (layer for layer, module in named if module.state_dict())
