"""The whole network: normalization, backbone, head; and around it what turns a waveform into probabilities."""

from pathlib import Path

import torch
from torch import nn

from models.backbones import registry, timm_models
from models.backbones.base import Backbone
from models.config import FeatureConfig, NetworkConfig, Normalization
from models.errors import ConfigError
from models.features import n_frames
from models.frontend import LogMel

# Share of each mel band's mean over the clip that is taken away. Microphones, rooms and throats show in these means; steady sounds are
# nothing else, so a part of them stays. 20 words, 300 updates, unheard speakers: 95.3 % without, 95.8 with half, 96.1 with all of it.
CENTERING = 0.8
CLASSIFIER = "classifier"  # the layer name of an image classifier that a speech model stands on


class Network(nn.Module):
    """Log-mels or pictures in, logits out; normalizes inside with the statistics of its configuration.

    Without labels there is no head: the pooled features are the output. The statistics are no part of `state_dict()`, because the
    configuration holds them.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: NetworkConfig, *, backbone: Backbone | None = None) -> None:
        """Build with random weights from torch's generator (see `build_network`), or around a ready backbone. Raises ConfigError."""
        super().__init__()
        self.config = config
        self.backbone = backbone or registry.create(config.architecture, in_channels=in_channels(config), input_size=input_size(config))
        self.head = self.backbone.build_head(len(config.labels), config.modality, config.source_classes) if config.labels else nn.Identity()
        for name, values in (("mean", config.normalization.mean), ("std", config.normalization.std)):
            self.register_buffer(name, _as_statistics(values, config), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (batch, classes), of log-mels (batch, n_mels, n_frames) or pictures (batch, 3, height, width) in 0..1."""
        logits: torch.Tensor = self.head(self.features_of(inputs))
        return logits

    def probabilities_of(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return calibrated probabilities, shape (batch, classes), of inputs as `forward` takes them."""
        return self.answers_of(inputs)[0]

    def answers_of(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return calibrated probabilities, shape (batch, classes), and the pooled vectors that they are made from, (batch, features)."""
        vectors = self.features_of(inputs)
        return torch.softmax(self.head(vectors) / self.config.temperature, dim=-1), vectors

    def features_of(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the pooled vectors, shape (batch, features), of inputs as `forward` takes them."""
        normalized = (inputs - self.mean) / self.std
        pictures = center_bands(normalized).unsqueeze(1) if self.config.modality == "audio" else normalized
        vectors: torch.Tensor = self.backbone(pictures)
        return vectors

    def layer_names(self) -> tuple[str, ...]:
        """Return what can be carried over, from input to output: the backbone's layers, and the classifier that a speech head stands on."""
        return self.backbone.layer_names() + ((CLASSIFIER,) if self.config.source_classes is not None else ())

    def layer(self, name: str) -> nn.Module:
        """Return one layer. Raises ConfigError for a name that `layer_names` does not list."""
        return self.classifier() if name == CLASSIFIER and name in self.layer_names() else self.backbone.layer(name)

    def layer_keys(self, name: str) -> tuple[str, ...]:
        """Return the keys of `state_dict()` that belong to one layer, in order."""
        if name == CLASSIFIER and name in self.layer_names():
            prefix = "head.0." if self.config.modality == "audio" else "head."
            return tuple(prefix + key for key in self.classifier().state_dict())
        return tuple("backbone." + key for key in self.backbone.layer_keys(name))

    def classifier(self) -> nn.Module:
        """Return the layer whose outputs are the image classes: a picture network's head, or the one below a speech head."""
        if self.config.modality == "image":
            return self.head
        if self.config.source_classes is None:
            raise ConfigError("this speech model stands on features, not on an image classifier", param="transfer.mode")
        return self.head.get_submodule("0")

    def parameter_count(self) -> int:
        """Return how many numbers the network learns or holds frozen."""
        return sum(parameter.numel() for parameter in self.parameters())

    def layer_sizes(self) -> dict[str, int]:
        """Return backbone layer → number of parameters, from input to output."""
        sizes = {"backbone." + key: parameter.numel() for key, parameter in self.backbone.named_parameters()}
        return {name: sum(sizes.get(key, 0) for key in self.layer_keys(name)) for name in self.backbone.layer_names()}


def center_bands(log_mels: torch.Tensor) -> torch.Tensor:
    """Return normalized log-mels, shape (batch, n_mels, n_frames), less CENTERING times each band's mean over the clip."""
    return log_mels - CENTERING * log_mels.mean(dim=2, keepdim=True)


def build_network(config: NetworkConfig, *, seed: int = 0) -> Network:
    """Return a network whose random weights depend on `seed` alone; torch's own generator is left as it was. Raises ConfigError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(config)


def published_network(name: str, *, directory: Path | None, offline: bool) -> Network:
    """Return `timm/<name>` with its published weights and no head, as the source of a transfer.

    Looks in `directory` (files `<name>.safetensors`), the hub's cache and, unless `offline`, the hub.
    Raises ConfigError for an unknown name and UnavailableError (weights_unavailable) where the weights can't be had.
    """
    weights = timm_models.find_weights(name, directory=directory, offline=offline)
    return Network(published_config(name), backbone=timm_models.load_published(name, weights))


def published_config(name: str) -> NetworkConfig:
    """Return the description of `timm/<name>` as published. Needs no weights. Raises ConfigError for an unknown name."""
    mean, std = timm_models.published_normalization(name)
    side = min(512, timm_models.published_input(name)[0])
    features = FeatureConfig(clip_seconds=1.0, image_size=side)
    return NetworkConfig(modality="image", architecture=name, labels=(), features=features, normalization=Normalization(mean=mean, std=std))


def in_channels(config: NetworkConfig) -> int:
    """Return how many channels the backbone sees: one for sounds, three for pictures."""
    return 1 if config.modality == "audio" else 3


def input_size(config: NetworkConfig) -> tuple[int, int]:
    """Return the height and width that the backbone sees: (n_mels, n_frames) or (pixels, pixels). Raises ConfigError on an open auto."""
    features = config.features
    if config.modality == "audio":
        return features.n_mels, n_frames(features)
    if features.image_size == "auto":
        raise ConfigError("image_size is still auto; models.recipes.resolve settles it", param="features.image_size")
    return features.image_size, features.image_size


class WaveformModel(nn.Module):
    """Waveform in, probabilities and the backbone's vector out, in operations that ONNX has."""

    def __init__(self, network: Network) -> None:
        """`network` is a speech network; it is shared, not copied."""
        super().__init__()
        self.log_mel = LogMel(network.config.features, exportable=True)
        self.network = network

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities (batch, classes) and vectors (batch, features) of waveforms (batch, clip_samples), float32 in -1..1."""
        return self.network.answers_of(self.log_mel(waveform))


class PictureModel(nn.Module):
    """Picture in, probabilities and the backbone's vector out."""

    def __init__(self, network: Network) -> None:
        """`network` is a picture network; it is shared, not copied."""
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities (batch, classes) and vectors (batch, features) of pictures (batch, 3, side, side), float32 in 0..1."""
        return self.network.answers_of(pixels)


def waveform_model(network: Network) -> nn.Module:
    """Return the module (batch, clip_samples) → probabilities (batch, classes), vectors (batch, features), for export."""
    return WaveformModel(network).eval()


def picture_model(network: Network) -> nn.Module:
    """Return the module (batch, 3, side, side) → probabilities (batch, classes), vectors (batch, features), for export."""
    return PictureModel(network).eval()


def _as_statistics(values: tuple[float, ...], config: NetworkConfig) -> torch.Tensor:
    """Return shape (1, n_mels, 1) for sounds, (1, 3, 1, 1) for pictures. Raises ConfigError where the count is another."""
    expected, ones = (config.features.n_mels, (1,)) if config.modality == "audio" else (3, (1, 1))
    if len(values) != expected:
        raise ConfigError(f"normalization has {len(values)} numbers, the inputs have {expected} bands or channels", param="normalization")
    return torch.tensor(values).view(1, expected, *ones)
