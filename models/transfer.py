"""Carrying a trained network's layers over to another one, and holding them still.

The weights of an image network go to a speech network of the same architecture by name. Two places need surgery, both pure functions
of tensors: the first convolution, where three colour channels meet one spectrogram, and position embeddings, where the grid differs.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from models.backbones import registry
from models.backbones.base import PositionGrid
from models.config import NetworkConfig, TransferConfig, TransferRecord
from models.errors import ConfigError
from models.network import CLASSIFIER, Network
from models.strategies import NEVER, thaw_points

InputRule = Literal["same", "sum", "mean", "replicate"]


def adapt_input_conv(weight: torch.Tensor, in_channels: int, rule: InputRule = "sum") -> torch.Tensor:
    """Return a convolution's weight, shape (out, in_channels, height, width), for another number of input channels.

    `sum` adds the channels up for one input channel: a grey picture gives then what it gave as three equal channels.
    `mean` takes their average: answers a third as large, for networks whose first normalization doesn't undo that.
    `replicate` repeats the channels in turn and scales by old/new, so that equal channels give the same answer.
    Shape of `weight`: (out, channels, height, width). Raises ConfigError for a rule that doesn't fit the numbers of channels.
    """
    channels = weight.shape[1]
    if channels == in_channels and rule == "same":
        return weight.clone()
    if rule == "sum" and in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    if rule == "mean" and in_channels == 1:
        return weight.mean(dim=1, keepdim=True)
    if rule == "replicate":
        repeats = -(-in_channels // channels)
        return weight.repeat(1, repeats, 1, 1)[:, :in_channels] * (channels / in_channels)
    raise ConfigError(f"the rule {rule!r} can't take {channels} input channels to {in_channels}", param="transfer.input_rule")


def resample_positions(embedding: torch.Tensor, old: PositionGrid, new: PositionGrid) -> torch.Tensor:
    """Return a position embedding, shape (1, new tokens, width), resampled bicubically from one of shape (1, old tokens, width).

    Tokens are `prefix_tokens` followed by height × width patches; the prefix is kept. Interpolates in float32.
    Raises ConfigError where the two have different prefixes.
    """
    if old.prefix_tokens != new.prefix_tokens:
        raise ConfigError("the position embeddings have different class tokens", param="base_model")
    prefix, patches = embedding[:, : old.prefix_tokens], embedding[:, old.prefix_tokens :]
    grid = patches.float().transpose(1, 2).reshape(1, -1, old.height, old.width)
    resized = nn.functional.interpolate(grid, (new.height, new.width), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([prefix, resized.flatten(2).transpose(1, 2).to(embedding.dtype)], dim=1)


def shared_layer_names(source: NetworkConfig, layers: tuple[str, ...], target: NetworkConfig, transfer: TransferConfig) -> tuple[str, ...]:
    """Return the layers that `transfer` carries over; `layers` are the source backbone's names from input to output.

    full: all of them, and the classifier where the target stands on it; partial: up to and including `until`; none, or auto: nothing.
    Raises ConfigError (layer_unknown) for an `until` that is none of the layers, or that is missing.
    """
    if transfer.mode == "full":
        return layers + ((CLASSIFIER,) if target.source_classes is not None else ())
    if transfer.mode != "partial":
        return ()
    if transfer.until not in layers:
        raise ConfigError(
            f"{source.architecture} has no layer {transfer.until!r}; its layers are {', '.join(layers)}",
            code="layer_unknown",
            param="transfer.until",
        )
    return layers[: layers.index(transfer.until) + 1]


def source_classes_of(source: NetworkConfig | None, mode: str) -> int | None:
    """Return how many image classes a speech model that transfers from `source` stands on, or None: `NetworkConfig.source_classes`.

    Only a full transfer from a backbone that carries its classifier (seed_cnn) has one; a speech model as source hands its own down.
    """
    if source is None or mode != "full" or not registry.entry(source.architecture).carries_classifier:
        return None
    return len(source.labels) if source.modality == "image" else source.source_classes


def carry_over(
    source: Network, source_config: NetworkConfig, target: Network, transfer: TransferConfig, *, base_model: str | None = None
) -> TransferRecord:
    """Copy the shared layers' parameters and batch-norm statistics from `source` into `target`; say what was done.

    `transfer` is resolved (no auto). Freezing and the other strategies are the trainer's part; the record says what it has to do.
    Raises ConfigError where architectures or shapes don't fit, or `until` names no layer.
    """
    if transfer.mode not in ("full", "partial"):
        return TransferRecord(mode="none", base_model=base_model)
    if source_config.architecture != target.config.architecture:
        message = f"a {source_config.architecture} can't be carried over to a {target.config.architecture}"
        raise ConfigError(message, code="architecture_mismatch", param="base_model")
    shared = shared_layer_names(source_config, source.backbone.layer_names(), target.config, transfer)
    keys = [key for name in shared if name != CLASSIFIER for key in source.layer_keys(name)]
    tensors, rule = _translated(source, target, keys, transfer)
    if CLASSIFIER in shared:
        tensors |= _classifier_tensors(source, target)
    target.load_state_dict(target.state_dict() | tensors)
    points = thaw_points(shared, transfer)
    return TransferRecord(
        mode=transfer.mode,
        base_model=base_model,
        shared_layers=shared,
        frozen_layers=tuple(name for name, share in points.items() if share == NEVER),
        input_rule=rule,
        thaw={name: share for name, share in points.items() if share != NEVER},
        penalty=0.0 if transfer.regularize == "none" else transfer.regularize_strength,
        statistics=transfer.statistics,
    )


def freeze(network: Network, names: Iterable[str]) -> None:
    """Exclude the layers' parameters from training. Raises ConfigError for a name that is no layer."""
    frozen = {key for name in names for key in network.layer_keys(name)}
    for key, parameter in network.named_parameters():
        parameter.requires_grad_(key not in frozen)


def set_train_mode(network: Network, frozen: Iterable[str]) -> None:
    """Put the network into training mode, frozen layers apart: their batch-norm statistics and dropout stay as in evaluation."""
    network.train()
    for name in frozen:
        network.layer(name).eval()


def _translated(source: Network, target: Network, keys: list[str], transfer: TransferConfig) -> tuple[dict[str, torch.Tensor], InputRule]:
    """Return the source's tensors in the target's shapes, by key, and how the input channels were joined."""
    given, wanted = source.state_dict(), target.state_dict()
    positions = {f"backbone.{name}": grid for name, grid in target.backbone.positions().items()}
    rule: InputRule = "same"
    tensors = {}
    for key in keys:
        tensor = given[key]
        if key not in wanted:
            raise _shape_error(key, "is missing in the new network")
        if tensor.shape != wanted[key].shape:
            if key in positions:
                tensor = resample_positions(tensor, source.backbone.positions()[key.removeprefix("backbone.")], positions[key])
            else:
                rule = _input_rule(key, tensor, wanted[key], transfer)
                tensor = adapt_input_conv(tensor, wanted[key].shape[1], rule)
        tensors[key] = tensor.clone()
    return tensors, rule


def _input_rule(key: str, tensor: torch.Tensor, wanted: torch.Tensor, transfer: TransferConfig) -> InputRule:
    """Return how a first convolution's channels are joined. Raises ConfigError where the tensors differ in more than these."""
    channels_only = tensor.dim() == wanted.dim() == 4 and (tensor.shape[0], *tensor.shape[2:]) == (wanted.shape[0], *wanted.shape[2:])
    if not channels_only or {tensor.shape[1], wanted.shape[1]} != {1, 3}:
        raise _shape_error(key, f"has shape {tuple(tensor.shape)} in the source and {tuple(wanted.shape)} in the new network")
    return settled_input_rule(transfer, in_channels=wanted.shape[1])


def settled_input_rule(transfer: TransferConfig, *, in_channels: int) -> Literal["sum", "mean", "replicate"]:
    """Return the rule for a network of `in_channels` that differ from the source's; auto is what keeps the answers to equal channels."""
    if transfer.input_rule != "auto":
        return transfer.input_rule
    return "sum" if in_channels == 1 else "replicate"


def _classifier_tensors(source: Network, target: Network) -> dict[str, torch.Tensor]:
    given, wanted = source.classifier().state_dict(), target.classifier().state_dict()
    if {key: value.shape for key, value in given.items()} != {key: value.shape for key, value in wanted.items()}:
        raise _shape_error(CLASSIFIER, "has another number of classes in the source")
    keys = target.layer_keys(CLASSIFIER)
    return dict(zip(keys, (value.clone() for value in given.values()), strict=True))


def _shape_error(key: str, what: str) -> ConfigError:
    hint = "features of another size need a backbone that takes any size"
    return ConfigError(f"{key} {what}", code="architecture_mismatch", param="base_model", hint=hint)
