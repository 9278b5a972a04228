"""Carrying layers over: what moves, what stays, what is refused."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.backbones.base import PositionGrid
from models.config import FeatureConfig, Modality, NetworkConfig, Normalization, TransferConfig
from models.errors import ConfigError
from models.network import Network, build_network, center_bands
from models.transfer import adapt_input_conv, carry_over, freeze, resample_positions, set_train_mode, shared_layer_names, source_classes_of

torch.set_num_threads(1)  # more threads than the tiny tensors are worth cost more than they bring

FEATURES = FeatureConfig(n_mels=32, clip_seconds=0.5, image_size=32)


def network_of(
    modality: Modality, architecture: str = "resnet_tiny", *, classes: int = 3, seed: int = 0, source_classes: int | None = None
) -> Network:
    bands = 32 if modality == "audio" else 3
    config = NetworkConfig(
        modality=modality,
        architecture=architecture,
        labels=tuple(f"label {number}" for number in range(classes)),
        features=FEATURES,
        normalization=Normalization(mean=(0.0,) * bands, std=(1.0,) * bands),
        source_classes=source_classes,
    )
    network = build_network(config, seed=seed)
    for name, buffer in network.named_buffers():  # as if it had been trained: statistics that are not the initial ones
        if name.endswith(("running_mean", "running_var")):
            low = 0.5 if name.endswith("var") else -0.5  # means on both sides of zero, or every ReLU is dead
            buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(seed)) + low)
    return network


def equal_layers(one: Network, other: Network, names: tuple[str, ...]) -> list[str]:
    """Return which of the layers hold the same tensors in both, the first convolution apart."""
    ours, theirs = one.state_dict(), other.state_dict()
    return [
        name
        for name in names
        if all(torch.equal(ours[key], theirs[key]) for key in one.layer_keys(name) if ours[key].shape == theirs[key].shape)
    ]


LAYERS = ("stem", "layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize(
    ("transfer", "carried"),
    [
        (TransferConfig(mode="full"), LAYERS),
        (TransferConfig(mode="partial", until="layer2"), LAYERS[:3]),
        (TransferConfig(mode="partial", until="stem"), LAYERS[:1]),
        (TransferConfig(mode="none"), ()),
    ],
)
def test_exactly_the_shared_layers_move(transfer: TransferConfig, carried: tuple[str, ...]) -> None:
    source, target, untouched = network_of("image", seed=1), network_of("audio", seed=2), network_of("audio", seed=2)
    record = carry_over(source, source.config, target, transfer, base_model="mdl_1")
    assert record.shared_layers == carried
    assert record.mode == transfer.mode
    assert record.base_model == "mdl_1"
    assert equal_layers(source, target, LAYERS) == list(carried)
    assert equal_layers(untouched, target, LAYERS) == [name for name in LAYERS if name not in carried]
    assert torch.equal(untouched.head.weight, target.head.weight)


def test_statistics_travel_with_their_layer() -> None:
    source, target = network_of("image", seed=1), network_of("audio", seed=2)
    carry_over(source, source.config, target, TransferConfig(mode="partial", until="layer1"))
    assert torch.equal(source.backbone.layer1.bn1.running_mean, target.backbone.layer1.bn1.running_mean)
    assert not torch.equal(source.backbone.layer2.bn1.running_mean, target.backbone.layer2.bn1.running_mean)


def test_one_channel_sees_what_three_equal_ones_saw() -> None:
    source, target = network_of("image", seed=1).eval(), network_of("audio", seed=2).eval()
    record = carry_over(source, source.config, target, TransferConfig(mode="full"))
    assert record.input_rule == "sum"
    pictures = torch.randn(2, 32, 51)
    torch.testing.assert_close(
        target.backbone(pictures[:, None]), source.backbone(pictures[:, None].expand(2, 3, 32, 51)), atol=1e-4, rtol=1e-4
    )


def test_sounds_to_sounds_moves_everything_as_it_is() -> None:
    source, target = network_of("audio", seed=1, classes=5), network_of("audio", seed=2)
    record = carry_over(source, source.config, target, TransferConfig(mode="full"))
    assert record.input_rule == "same"
    assert equal_layers(source, target, LAYERS) == list(LAYERS)


def test_sounds_to_pictures_replicates() -> None:
    source, target = network_of("audio", seed=1).eval(), network_of("image", seed=2).eval()
    assert carry_over(source, source.config, target, TransferConfig(mode="full")).input_rule == "replicate"
    pictures = torch.randn(2, 32, 32)
    expected = source.backbone(pictures[:, None])
    assert expected.abs().mean() > 0.01
    torch.testing.assert_close(target.backbone(pictures[:, None].expand(2, 3, 32, 32)), expected, atol=1e-4, rtol=1e-4)


def test_the_copy_is_a_copy() -> None:
    source, target = network_of("image", seed=1), network_of("audio", seed=2)
    carry_over(source, source.config, target, TransferConfig(mode="full"))
    with torch.no_grad():
        target.backbone.layer1.conv1.weight.zero_()
    assert source.backbone.layer1.conv1.weight.any()


def test_seed_cnn_full_brings_its_classifier() -> None:
    source = network_of("image", "seed_cnn", classes=7, seed=1)
    assert source_classes_of(source.config, "full") == 7
    target = network_of("audio", "seed_cnn", seed=2, source_classes=7)
    record = carry_over(source, source.config, target, TransferConfig(mode="full", freeze="shared"))
    assert record.shared_layers == record.frozen_layers == ("conv1", "conv2", "fc", "classifier")
    assert torch.equal(target.classifier().weight, source.head.weight)
    log_mels = torch.randn(1, 32, 51)
    logits = source(center_bands(log_mels)[:, None].expand(1, 3, 32, 51))
    torch.testing.assert_close(target(log_mels), target.head[1](logits), atol=1e-5, rtol=1e-4)


def test_seed_cnn_speech_hands_its_classifier_on() -> None:
    source = network_of("audio", "seed_cnn", seed=1, source_classes=7)
    assert source_classes_of(source.config, "full") == 7
    target = network_of("audio", "seed_cnn", seed=2, source_classes=7, classes=4)
    carry_over(source, source.config, target, TransferConfig(mode="full"))
    assert torch.equal(target.classifier().weight, source.classifier().weight)


def test_who_stands_on_image_classes() -> None:
    seed, tiny = network_of("image", "seed_cnn", classes=7).config, network_of("image").config
    assert source_classes_of(seed, "partial") is None
    assert source_classes_of(seed, "none") is None
    assert source_classes_of(tiny, "full") is None
    assert source_classes_of(None, "full") is None


def test_a_classifier_of_other_classes_is_refused() -> None:
    source, target = network_of("image", "seed_cnn", classes=7), network_of("audio", "seed_cnn", source_classes=6)
    with pytest.raises(ConfigError) as caught:
        carry_over(source, source.config, target, TransferConfig(mode="full"))
    assert caught.value.code == "architecture_mismatch"


def test_another_architecture_is_refused() -> None:
    source, target = network_of("image", "seed_cnn"), network_of("audio", "resnet_tiny")
    with pytest.raises(ConfigError) as caught:
        carry_over(source, source.config, target, TransferConfig(mode="full"))
    assert caught.value.code == "architecture_mismatch"


@pytest.mark.parametrize("until", ["layer9", "head", "classifier", None])
def test_an_unknown_layer_is_refused_with_those_there_are(until: str | None) -> None:
    source, target = network_of("image"), network_of("audio")
    with pytest.raises(ConfigError) as caught:
        carry_over(source, source.config, target, TransferConfig(mode="partial", until=until))
    assert caught.value.code == "layer_unknown"
    assert "stem, layer1, layer2, layer3, layer4" in caught.value.message


@given(until=st.sampled_from(LAYERS))
def test_shared_layers_are_a_beginning(until: str) -> None:
    config = network_of("image").config
    names = shared_layer_names(config, LAYERS, config, TransferConfig(mode="partial", until=until))
    assert names == LAYERS[: len(names)]
    assert names[-1] == until


def test_positions_are_resampled_where_the_grid_differs() -> None:
    source = network_of("image", "timm/test_vit", seed=1)
    target = vit_for_sounds(seed=2)
    carry_over(source, source.config, target, TransferConfig(mode="full"))
    given_, got = source.backbone.model.pos_embed, target.backbone.model.pos_embed
    assert given_.shape[1] == 1 + 2 * 2
    assert got.shape[1] == 1 + 2 * 3
    torch.testing.assert_close(got[:, 0], given_[:, 0])
    torch.testing.assert_close(target.backbone.model.blocks[0].attn.qkv.weight, source.backbone.model.blocks[0].attn.qkv.weight)


def vit_for_sounds(seed: int) -> Network:
    """Return a transformer for 32 bands and 48 frames: 2 by 3 patches of 16 by 16."""
    features = FeatureConfig(n_mels=32, hop_ms=10.0, clip_seconds=0.47)
    normalization = Normalization(mean=(0.0,) * 32, std=(1.0,) * 32)
    return build_network(
        NetworkConfig(modality="audio", architecture="timm/test_vit", labels=("a", "b"), features=features, normalization=normalization),
        seed=seed,
    )


def test_resampling_keeps_constants_and_the_prefix() -> None:
    embedding = torch.cat([torch.full((1, 1, 8), 9.0), torch.full((1, 12, 8), 2.0)], dim=1)
    resampled = resample_positions(embedding, PositionGrid(3, 4, 1), PositionGrid(5, 7, 1))
    assert resampled.shape == (1, 36, 8)
    torch.testing.assert_close(resampled[:, :1], embedding[:, :1])
    torch.testing.assert_close(resampled[:, 1:], torch.full((1, 35, 8), 2.0))
    with pytest.raises(ConfigError):
        resample_positions(embedding, PositionGrid(3, 4, 1), PositionGrid(5, 7, 2))


def test_resampling_keeps_rows_and_columns_apart() -> None:
    rows = torch.arange(4.0).view(4, 1).expand(4, 4)
    resampled = resample_positions(rows.reshape(1, 16, 1), PositionGrid(4, 4, 0), PositionGrid(4, 8, 0)).view(4, 8)
    torch.testing.assert_close(resampled, torch.arange(4.0).view(4, 1).expand(4, 8))


def test_input_rules() -> None:
    weight = torch.randn(4, 3, 3, 3)
    assert torch.equal(adapt_input_conv(weight, 1), weight.sum(dim=1, keepdim=True))
    torch.testing.assert_close(3 * adapt_input_conv(weight, 1, "mean"), weight.sum(dim=1, keepdim=True))
    assert torch.equal(adapt_input_conv(weight, 3, "same"), weight)
    one = torch.randn(4, 1, 3, 3)
    torch.testing.assert_close(adapt_input_conv(one, 3, "replicate").sum(dim=1, keepdim=True), one)
    assert adapt_input_conv(weight, 5, "replicate").shape == (4, 5, 3, 3)
    for channels, rule in ((2, "sum"), (2, "mean"), (1, "same")):
        with pytest.raises(ConfigError):
            adapt_input_conv(weight, channels, rule)


@pytest.mark.parametrize(("rule", "channels"), [("auto", (1, 1, 1)), ("mean", (1 / 3, 1 / 3, 1 / 3)), ("replicate", (3, 0, 0))])
def test_the_input_rule_is_followed_and_recorded(rule: Any, channels: tuple[float, ...]) -> None:
    source, target = network_of("image", seed=1), network_of("audio", seed=2)
    record = carry_over(source, source.config, target, TransferConfig(mode="full", input_rule=rule))
    assert record.input_rule == ("sum" if rule == "auto" else rule)
    expected = (source.backbone.stem[0].weight * torch.tensor(channels).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(target.backbone.stem[0].weight, expected)


def test_the_record_says_what_the_trainer_has_to_do() -> None:
    source, target = network_of("image", seed=1), network_of("audio", seed=2)
    transfer = TransferConfig(
        mode="partial", until="layer1", freeze="gradual", regularize="l2_sp", regularize_strength=0.5, statistics="target"
    )
    record = carry_over(source, source.config, target, transfer)
    assert record.frozen_layers == ()
    assert record.thaw == {"stem": 0.5, "layer1": 0.25}
    assert (record.penalty, record.statistics, record.interpolation) == (0.5, "target", 1.0)
    plain = carry_over(source, source.config, target, TransferConfig(mode="full"))
    assert (plain.thaw, plain.penalty, plain.statistics) == ({}, 0.0, "source")


def test_frozen_layers_stand_still_in_every_sense() -> None:
    network = network_of("audio")
    freeze(network, ("stem", "layer1"))
    assert {name.split(".")[1] for name, parameter in network.named_parameters() if not parameter.requires_grad} == {"stem", "layer1"}
    set_train_mode(network, ("stem", "layer1"))
    assert not network.layer("stem").training
    assert not any(module.training for module in network.layer("layer1").modules())
    assert network.layer("layer2").training
    freeze(network, ())
    assert all(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(ConfigError):
        freeze(network, ("layer9",))
