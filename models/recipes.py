"""What "auto" means: every open choice of a job settled from the dataset's size and shape, and from what it builds on.

The numbers come from trials on small sets of words and digits on two CPU cores; each is a starting point that a job may overrule.
"""

import math

import numpy as np

from models.backbones import registry
from models.backbones.base import Backbone
from models.config import (
    AUTO,
    AugmentationConfig,
    FeatureConfig,
    Hyperparameters,
    JobSpec,
    Modality,
    NetworkConfig,
    Normalization,
    TransferConfig,
)
from models.dataset import PackedDataset
from models.errors import ConfigError, DatasetError
from models.norm_statistics import norms_of
from models.optimizers import OPTIMIZERS
from models.training_state import batches_per_epoch
from models.transfer import settled_input_rule, source_classes_of
from models.transfer_rules import check_options

# Training items → weight updates: a few words need some hundred updates whatever their number, large sets are seen a few times.
_UPDATES = ((60, 400), (400, 600), (3600, 2000), (60_000, 2400))
# Of what one voice (group) says for one label, so many clips count; more takes are hardly news. Digits of 3 voices, 50 takes each, heard
# from a voice left out (mean of two): 80.1 % after all the updates of 1500 items, 82.6 % after a third, 84.7 % after a fifth.
_TAKES = 10
_EPOCHS = (3, 200)
_FULL_BATCH_ITEMS = 400_000  # item visits that full-batch descent is granted, one update an epoch
_FULL_BATCH_EPOCHS = (20, 300)
_BATCH_SIZES = ((0, 16), (500, 32), (2000, 64), (10_000, 128))  # from so many training items on
_FULL_BATCH_CHUNK = 256  # items whose gradient is computed at a time; the update joins them all
_CLIP_SECONDS = (0.5, 4.0)
_IMAGE_SIDES = (28, 64)
_UNUSED_CLIP_SECONDS, _UNUSED_IMAGE_SIZE = 1.0, 28  # the other modality's field: settled, read by nothing


def resolve(spec: JobSpec, dataset: PackedDataset, *, source: NetworkConfig | None, device: str = "cpu") -> JobSpec:
    """Return the job with every auto replaced.

    `source` describes the network whose weights `base_model` names, None where it names none (null, auto, or an architecture alone).
    `device` is cpu or cuda and settles the precision. Raises ConfigError for choices that contradict one another or can't be had,
    DatasetError for a dataset without training items.
    """
    if not len(dataset.indices("train")):
        raise DatasetError("the dataset has no training items", code="dataset_empty", param="dataset")
    architecture = architecture_of(spec, source)
    settled = {
        "base_model": architecture if spec.base_model == AUTO else spec.base_model,
        "type": spec.type or ("pretrain" if dataset.modality == "image" else "finetune"),
        "transfer": _transfer(spec.transfer, source, architecture, dataset),
        "features": _features(spec.features, dataset),
        "hyperparameters": _hyperparameters(spec.hyperparameters, dataset, architecture, device),
        "augmentation": _augmentation(spec.augmentation, dataset),
    }
    return spec.model_copy(update=settled)


def architecture_of(spec: JobSpec, source: NetworkConfig | None) -> str:
    """Return the backbone that the job trains: the source's, the architecture that `base_model` names, or the default one.

    Raises ConfigError where `base_model` is neither.
    """
    if source is not None:
        return source.architecture
    if spec.base_model in (None, AUTO):
        return registry.DEFAULT
    registry.entry(spec.base_model)
    return spec.base_model


def network_config(
    spec: JobSpec, *, modality: Modality, labels: tuple[str, ...], normalization: Normalization, source: NetworkConfig | None
) -> NetworkConfig:
    """Return the description of the network that a resolved job trains. Raises ConfigError as `architecture_of` does."""
    return NetworkConfig(
        modality=modality,
        architecture=architecture_of(spec, source),
        labels=labels,
        features=spec.features,
        normalization=normalization,
        source_classes=source_classes_of(source, spec.transfer.mode) if modality == "audio" else None,
    )


def default_until(backbone: Backbone) -> str:
    """Return the last layer that a partial transfer carries over unless told: the one before the last stage."""
    layers = backbone.layer_names()
    return layers[max(0, layers.index(backbone.stage_names()[-1]) - 1)]


def _transfer(config: TransferConfig, source: NetworkConfig | None, architecture: str, dataset: PackedDataset) -> TransferConfig:
    mode = config.mode
    if mode == "auto":
        # Whoever names a layer to stop at wants a part.
        mode = "none" if source is None else "partial" if config.until is not None else "full"
    if mode != "none" and source is None:
        raise _contradiction("transfer_without_source", "mode", f"transfer.mode {mode} needs a base_model with weights")
    if mode == "none" and config.freeze != "none":
        raise _contradiction("freeze_without_transfer", "freeze", "there are no shared layers to freeze without a transfer")
    check_options(config, carries=mode != "none")
    if mode != "partial" and config.until is not None:
        raise _contradiction("until_without_partial", "until", f"until says where a partial transfer ends; the mode is {mode}")
    _check_means(config, source, architecture, dataset)
    until = _until(config.until, architecture) if mode == "partial" else None
    rule = settled_input_rule(config, in_channels=1 if dataset.modality == "audio" else 3)
    return config.model_copy(update={"mode": mode, "until": until, "input_rule": rule})


def _check_means(config: TransferConfig, source: NetworkConfig | None, architecture: str, dataset: PackedDataset) -> None:
    """Refuse what this network or this dataset has no means for."""
    if config.interpolate == "auto" and not len(dataset.indices("validation")):
        hint = "give a number, or a dataset with validation items"
        raise ConfigError("interpolate auto is judged by validation items; there are none", param="transfer.interpolate", hint=hint)
    if config.statistics == "target" and not norms_of(registry.outline(architecture)):
        raise ConfigError(f"{architecture} has no batch-norm statistics to measure anew", param="transfer.statistics")
    grows = source is not None and source.modality == "audio" and dataset.modality == "image"
    if config.input_rule in ("sum", "mean") and grows:
        raise ConfigError(f"input_rule {config.input_rule} can't make three channels of one", param="transfer.input_rule", hint="replicate")


def _contradiction(code: str, field: str, message: str) -> ConfigError:
    return ConfigError(message, code=code, param=f"transfer.{field}")


def _until(until: str | None, architecture: str) -> str:
    backbone = registry.outline(architecture)
    if until is None:
        return default_until(backbone)
    backbone.check_layer(until, param="transfer.until")
    return until


def _features(config: FeatureConfig, dataset: PackedDataset) -> FeatureConfig:
    seconds, side = config.clip_seconds, config.image_size
    if seconds == "auto":
        seconds = _clip_seconds(dataset) if dataset.modality == "audio" else _UNUSED_CLIP_SECONDS
    if side == "auto":
        side = _image_size(dataset) if dataset.modality == "image" else _UNUSED_IMAGE_SIZE
    return config.model_copy(update={"clip_seconds": seconds, "image_size": side})


def _clip_seconds(dataset: PackedDataset) -> float:
    """Return the 95th percentile of the training clips' lengths, rounded up to tenths of a second."""
    durations = np.asarray(dataset.durations())[dataset.indices("train")]
    # A clip of 1.00003 s, as resampling leaves them, is one second.
    tenths = math.ceil(float(np.percentile(durations, 95)) * 10 - 0.01)
    return float(np.clip(tenths / 10, *_CLIP_SECONDS))


def _image_size(dataset: PackedDataset) -> int:
    """Return the median shorter side of the training pictures, pixels."""
    sides = dataset.shapes[dataset.indices("train")].min(axis=1)
    return int(np.clip(np.median(sides), *_IMAGE_SIDES))


def _hyperparameters(config: Hyperparameters, dataset: PackedDataset, architecture: str, device: str) -> Hyperparameters:
    if config.precision == "bf16" and not device.startswith("cuda"):
        # torch 2.11 leaves parts of a bf16 weight gradient unwritten on a CPU where a strided convolution's maps are one pixel wide.
        message = "bf16 needs a GPU; this job runs on a CPU, where its gradients can't be trusted"
        raise ConfigError(message, param="hyperparameters.precision", hint="use fp32, or auto")
    optimizer, n_train = OPTIMIZERS[config.optimizer], len(dataset.indices("train"))
    batch_size = _batch_size(n_train, full_batch=optimizer.full_batch) if config.batch_size == "auto" else config.batch_size
    automatic = {
        "epochs": _full_batch_epochs(n_train) if optimizer.full_batch else _epochs(n_train, _distinct(dataset), batch_size),
        "batch_size": batch_size,
        "learning_rate": optimizer.learning_rate * registry.entry(architecture).rate_scale,
        "weight_decay": optimizer.weight_decay,
        "precision": "bf16" if device.startswith("cuda") else "fp32",
    }
    return config.model_copy(update={name: value for name, value in automatic.items() if getattr(config, name) == "auto"})


def _batch_size(n_train: int, *, full_batch: bool) -> int:
    if full_batch:
        return _FULL_BATCH_CHUNK
    return next(size for least, size in reversed(_BATCH_SIZES) if n_train >= least)


def _distinct(dataset: PackedDataset) -> int:
    """Return the number of training items, of which one group's of one label count as ten at most."""
    train = dataset.indices("train")
    groups, labels = (np.asarray(of, np.int64)[train] for of in (dataset.item_groups, dataset.item_labels))
    known = groups >= 0
    _, takes = np.unique(groups[known] * len(dataset.labels) + labels[known], return_counts=True)
    return int((~known).sum() + np.minimum(takes, _TAKES).sum())


def _epochs(n_train: int, n_distinct: int, batch_size: int) -> int:
    sizes, updates = zip(*_UPDATES, strict=True)
    budget = float(np.interp(math.log(n_distinct), np.log(sizes), updates))
    return int(np.clip(round(budget / batches_per_epoch(n_train, batch_size)), *_EPOCHS))


def _full_batch_epochs(n_train: int) -> int:
    return int(np.clip(_FULL_BATCH_ITEMS // n_train, *_FULL_BATCH_EPOCHS))


def _augmentation(config: AugmentationConfig, dataset: PackedDataset) -> AugmentationConfig:
    if config.flip != "auto":
        return config
    return config.model_copy(update={"flip": dataset.modality == "image" and not dataset.grey})
