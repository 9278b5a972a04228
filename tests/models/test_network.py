"""The network: normalization inside, heads by modality, waveform models for export."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from models.config import FeatureConfig, NetworkConfig, Normalization
from models.errors import ConfigError
from models.features import clip_samples, log_mel, n_frames
from models.network import CENTERING, build_network, center_bands, input_size, picture_model, published_network, waveform_model

torch.set_num_threads(1)  # more threads than the tiny tensors are worth cost more than they bring

FEATURES = FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=1.0, image_size=28)
AUDIO = NetworkConfig(
    modality="audio",
    architecture="resnet_tiny",
    labels=("no", "yes"),
    features=FEATURES,
    normalization=Normalization(mean=tuple(float(band) / 10 - 8 for band in range(64)), std=(3.0,) * 64),
)
IMAGE = NetworkConfig(
    modality="image",
    architecture="resnet_tiny",
    labels=("a", "b", "c"),
    features=FEATURES,
    normalization=Normalization(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
)


def with_architecture(config: NetworkConfig, architecture: str, source_classes: int | None = None) -> NetworkConfig:
    return config.model_copy(update={"architecture": architecture, "source_classes": source_classes})


@pytest.mark.parametrize("architecture", ["resnet_tiny", "seed_cnn", "timm/test_resnet"])
def test_logits_for_both_modalities(architecture: str) -> None:
    for config, inputs in ((AUDIO, torch.randn(2, 64, 101)), (IMAGE, torch.rand(2, 3, 28, 28))):
        network = build_network(with_architecture(config, architecture)).eval()
        assert network(inputs).shape == (2, len(config.labels))
        assert network.features_of(inputs).shape == (2, network.backbone.features)


def test_normalizes_inside() -> None:
    network = build_network(AUDIO).eval()
    plain = build_network(AUDIO.model_copy(update={"normalization": Normalization(mean=(0.0,) * 64, std=(1.0,) * 64)})).eval()
    log_mels = torch.randn(2, 64, 101)
    mean = torch.tensor(AUDIO.normalization.mean)[:, None]
    torch.testing.assert_close(network(log_mels), plain((log_mels - mean) / 3))


def test_statistics_are_no_weights() -> None:
    assert not {"mean", "std"} & build_network(AUDIO).state_dict().keys()


def test_weights_depend_on_the_seed_alone_and_leave_torchs_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build_network(AUDIO, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    two, three = build_network(AUDIO, seed=4), build_network(AUDIO, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.head.weight, three.head.weight)


def test_input_size_is_what_the_features_give() -> None:
    assert input_size(AUDIO) == (64, n_frames(FEATURES)) == (64, 101)
    assert input_size(IMAGE) == (28, 28)
    with pytest.raises(ConfigError):
        input_size(IMAGE.model_copy(update={"features": FeatureConfig()}))


@pytest.mark.parametrize("config", [AUDIO, IMAGE])
def test_statistics_of_another_size_are_refused(config: NetworkConfig) -> None:
    with pytest.raises(ConfigError):
        build_network(config.model_copy(update={"normalization": Normalization(mean=(0.0,), std=(1.0,))}))


def test_waveform_model_is_features_network_softmax_and_the_vectors_below_it() -> None:
    network = build_network(AUDIO).eval()
    waveforms = np.random.default_rng(0).uniform(-0.5, 0.5, (3, clip_samples(FEATURES))).astype(np.float32)
    with torch.no_grad():
        probabilities, vectors = waveform_model(network)(torch.from_numpy(waveforms))
        log_mels = torch.from_numpy(log_mel(waveforms, FEATURES))
        expected = network(log_mels).softmax(dim=1)
    torch.testing.assert_close(vectors, network.features_of(log_mels), atol=1e-3, rtol=0)
    torch.testing.assert_close(probabilities, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))


def test_picture_model_gives_probabilities_and_the_vectors_below_them() -> None:
    pictures = torch.rand(2, 3, 28, 28)
    network = build_network(IMAGE)
    model = picture_model(network)
    probabilities, vectors = model(pictures)
    torch.testing.assert_close(probabilities, network(pictures).softmax(dim=1))
    torch.testing.assert_close(vectors, network.features_of(pictures))


def test_seed_cnn_speech_stands_on_the_image_classes() -> None:
    network = build_network(with_architecture(AUDIO, "seed_cnn", source_classes=10))
    assert network.layer_names() == ("conv1", "conv2", "fc", "classifier")
    assert network.classifier() is network.layer("classifier")
    assert network.classifier().weight.shape == (10, 1024)
    assert network.layer_keys("classifier") == ("head.0.weight", "head.0.bias")
    assert set(network.layer_keys("classifier")) <= network.state_dict().keys()


def test_a_speech_model_without_classifier_says_so() -> None:
    with pytest.raises(ConfigError):
        build_network(AUDIO).classifier()
    with pytest.raises(ConfigError):
        build_network(AUDIO).layer("classifier")


def test_sizes_add_up() -> None:
    network = build_network(AUDIO)
    sizes = network.layer_sizes()
    assert list(sizes) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert network.parameter_count() == sum(sizes.values()) + network.backbone.features * 2 + 2


def test_published_network_is_the_backbone_with_timms_normalization(tmp_path: Path) -> None:
    original = timm.create_model("test_resnet", pretrained=False).eval()
    save_file(original.state_dict(), tmp_path / "test_resnet.safetensors")
    network = published_network("timm/test_resnet", directory=tmp_path, offline=True).eval()
    side = input_size(network.config)[0]
    pictures = torch.rand(2, 3, side, side)
    mean, std = (torch.tensor(original.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    expected = original.forward_head(original.forward_features((pictures - mean) / std), pre_logits=True)
    torch.testing.assert_close(network(pictures), expected)


def test_bands_are_centered_in_part_and_pictures_are_not() -> None:
    log_mels = torch.randn(2, 64, 51)
    centered = center_bands(log_mels)
    torch.testing.assert_close(centered.mean(dim=2), (1 - CENTERING) * log_mels.mean(dim=2), atol=1e-6, rtol=1e-5)
    steady = torch.ones(1, 64, 51) * torch.arange(64.0)[:, None]
    torch.testing.assert_close(center_bands(steady), (1 - CENTERING) * steady)  # a steady sound is still told by its spectrum
    network = build_network(AUDIO).eval()
    normalized = (log_mels - network.mean) / network.std
    torch.testing.assert_close(network.features_of(log_mels), network.backbone(center_bands(normalized)[:, None]))
