"""Recipes: every auto is settled, contradictions are named, and the steps stay in proportion."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.backbones import registry
from models.config import (
    AugmentationConfig,
    FeatureConfig,
    Hyperparameters,
    JobSpec,
    Modality,
    NetworkConfig,
    Normalization,
    OptimizerName,
    Split,
    TransferConfig,
)
from models.dataset import PackedDataset, PackedWriter
from models.errors import ConfigError, DatasetError
from models.optimizers import OPTIMIZERS
from models.recipes import architecture_of, default_until, network_config, resolve
from models.training_state import Plan

SOURCE = NetworkConfig(
    modality="image",
    architecture="resnet_tiny",
    labels=("a", "b"),
    features=FeatureConfig(clip_seconds=1.0, image_size=28),
    normalization=Normalization(mean=(0.0,) * 3, std=(1.0,) * 3),
)
SPEC = JobSpec(dataset="ds_1")


def pack(directory: Path, items: list[np.ndarray[Any, Any]], split: Split = "train", *, grey: bool = False) -> PackedDataset:
    modality: Modality = "audio" if items[0].ndim == 1 else "image"
    with PackedWriter(directory, modality, sample_rate=16000 if modality == "audio" else None) as writer:
        for item in items:
            writer.append(item)
        writer.finish(
            labels=["x", "y"],
            item_labels=[number % 2 for number in range(len(items))],
            item_splits=[split] * len(items),
            item_groups=[-1] * len(items),
            group_names=[],
            summary={"grey": grey},
        )
    return PackedDataset.open(directory)


@pytest.fixture
def clips(tmp_path: Path) -> PackedDataset:
    return pack(tmp_path, [np.ones(8000 + 400 * number, np.int16) for number in range(20)])


@pytest.fixture
def pictures(tmp_path: Path) -> PackedDataset:
    return pack(tmp_path, [np.ones((40, 32 + number, 3), np.uint8) for number in range(9)])


def autos(value: Any, path: str = "") -> list[str]:
    """Return the places in a dumped object that still say auto."""
    if isinstance(value, dict):
        return [found for key, part in value.items() for found in autos(part, f"{path}/{key}")]
    return [path] if value == "auto" else []


@pytest.mark.parametrize("source", [None, SOURCE])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_nothing_stays_auto(clips: PackedDataset, source: NetworkConfig | None, optimizer: OptimizerName) -> None:
    resolved = resolve(SPEC.model_copy(update={"hyperparameters": Hyperparameters(optimizer=optimizer)}), clips, source=source)
    assert not autos(resolved.model_dump())
    assert resolved.type == "finetune"
    JobSpec.model_validate(resolved.model_dump())
    Plan.of(resolved, 20)


def test_nothing_stays_auto_for_pictures(pictures: PackedDataset) -> None:
    resolved = resolve(SPEC, pictures, source=None)
    assert not autos(resolved.model_dump())
    assert resolved.type == "pretrain"


def test_resolving_twice_changes_nothing(clips: PackedDataset) -> None:
    once = resolve(SPEC, clips, source=SOURCE)
    assert resolve(once, clips, source=SOURCE) == once


def test_what_is_chosen_is_kept(clips: PackedDataset) -> None:
    chosen = JobSpec(
        dataset="ds_1",
        type="pretrain",
        base_model="mdl_1",
        transfer=TransferConfig(mode="partial", until="layer1", freeze="shared", statistics="target", input_rule="mean"),
        hyperparameters=Hyperparameters(epochs=7, batch_size=3, learning_rate=0.5, weight_decay=0.25, precision="bf16"),
        features=FeatureConfig(clip_seconds=2.5, image_size=99),
        augmentation=AugmentationConfig(flip=True),
    )
    assert resolve(chosen, clips, source=SOURCE, device="cuda") == chosen


def test_clip_covers_most_of_the_clips(clips: PackedDataset) -> None:
    # 0.5 to 0.975 s in steps of 0.025 s; the 95th percentile is 0.951 s
    assert resolve(SPEC, clips, source=None).features.clip_seconds == pytest.approx(1.0)


@pytest.mark.parametrize(("samples", "seconds"), [(16000, 1.0), (16005, 1.0), (1600, 0.5), (160_000, 4.0), (16500, 1.1)])
def test_clip_seconds_are_tenths_within_limits(tmp_path: Path, samples: int, seconds: float) -> None:
    dataset = pack(tmp_path, [np.ones(samples, np.int16)] * 4)
    assert resolve(SPEC, dataset, source=None).features.clip_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("side", "size"), [(28, 28), (8, 28), (50, 50), (300, 64)])
def test_image_size_is_the_median_side_within_limits(tmp_path: Path, side: int, size: int) -> None:
    dataset = pack(tmp_path, [np.ones((side, side + 5, 3), np.uint8)] * 3)
    assert resolve(SPEC, dataset, source=None).features.image_size == size


@pytest.mark.parametrize(("grey", "flip"), [(True, False), (False, True)])
def test_only_colour_pictures_are_mirrored(tmp_path: Path, grey: bool, flip: bool) -> None:
    dataset = pack(tmp_path, [np.ones((28, 28, 3), np.uint8)] * 3, grey=grey)
    assert resolve(SPEC, dataset, source=None).augmentation.flip is flip


def test_sounds_are_never_mirrored(clips: PackedDataset) -> None:
    assert resolve(SPEC, clips, source=None).augmentation.flip is False


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp32"), ("cuda", "bf16"), ("cuda:1", "bf16")])
def test_precision_follows_the_device(clips: PackedDataset, device: str, precision: str) -> None:
    assert resolve(SPEC, clips, source=None, device=device).hyperparameters.precision == precision


def test_half_precision_is_refused_on_a_cpu(clips: PackedDataset) -> None:
    spec = SPEC.model_copy(update={"hyperparameters": Hyperparameters(precision="bf16")})
    with pytest.raises(ConfigError) as caught:
        resolve(spec, clips, source=None, device="cpu")
    assert (caught.value.param, caught.value.hint) == ("hyperparameters.precision", "use fp32, or auto")
    assert resolve(spec, clips, source=None, device="cuda").hyperparameters.precision == "bf16"


@pytest.mark.parametrize(
    ("transfer", "source", "mode", "until"),
    [
        (TransferConfig(), None, "none", None),
        (TransferConfig(), SOURCE, "full", None),
        (TransferConfig(until="layer2"), SOURCE, "partial", "layer2"),
        (TransferConfig(mode="partial"), SOURCE, "partial", "layer3"),
        (TransferConfig(mode="partial", until="stem"), SOURCE, "partial", "stem"),
        (TransferConfig(mode="none"), SOURCE, "none", None),
    ],
)
def test_transfer(clips: PackedDataset, transfer: TransferConfig, source: NetworkConfig | None, mode: str, until: str | None) -> None:
    resolved = resolve(SPEC.model_copy(update={"transfer": transfer}), clips, source=source).transfer
    assert (resolved.mode, resolved.until) == (mode, until)


@pytest.mark.parametrize(
    ("transfer", "source", "code"),
    [
        (TransferConfig(mode="full"), None, "transfer_without_source"),
        (TransferConfig(mode="partial"), None, "transfer_without_source"),
        (TransferConfig(mode="none", freeze="shared"), SOURCE, "freeze_without_transfer"),
        (TransferConfig(freeze="shared"), None, "freeze_without_transfer"),
        (TransferConfig(mode="full", until="layer1"), SOURCE, "until_without_partial"),
        (TransferConfig(until="layer1"), None, "until_without_partial"),
        (TransferConfig(mode="partial", until="layer9"), SOURCE, "layer_unknown"),
    ],
)
def test_contradictions_are_named(clips: PackedDataset, transfer: TransferConfig, source: NetworkConfig | None, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(SPEC.model_copy(update={"transfer": transfer}), clips, source=source)
    assert caught.value.code == code
    assert str(caught.value.param).startswith("transfer.")


@pytest.mark.parametrize(
    ("transfer", "source", "param"),
    [
        (TransferConfig(freeze="gradual"), None, "transfer.freeze"),
        (TransferConfig(mode="none", probe_first=True), SOURCE, "transfer.probe_first"),
        (TransferConfig(regularize="l2_sp"), None, "transfer.regularize"),
        (TransferConfig(interpolate=0.5), None, "transfer.interpolate"),
        (TransferConfig(thaw_from="input"), SOURCE, "transfer.thaw_from"),
        (TransferConfig(interpolate="auto"), SOURCE, "transfer.interpolate"),  # there are no validation items
        (TransferConfig(statistics="target"), SOURCE.model_copy(update={"architecture": "seed_cnn"}), "transfer.statistics"),
    ],
)
def test_options_without_means_are_refused(
    clips: PackedDataset, transfer: TransferConfig, source: NetworkConfig | None, param: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(SPEC.model_copy(update={"transfer": transfer}), clips, source=source)
    assert caught.value.param == param


@pytest.mark.parametrize("rule", ["sum", "mean"])
def test_one_channel_can_only_be_replicated(pictures: PackedDataset, rule: Any) -> None:
    bands = Normalization(mean=(0.0,) * 40, std=(1.0,) * 40)
    speech = SOURCE.model_copy(update={"modality": "audio", "normalization": bands})
    assert resolve(SPEC, pictures, source=speech).transfer.input_rule == "replicate"
    with pytest.raises(ConfigError) as caught:
        resolve(SPEC.model_copy(update={"transfer": TransferConfig(input_rule=rule)}), pictures, source=speech)
    assert caught.value.param == "transfer.input_rule"


def test_channels_are_summed_up_for_sounds(clips: PackedDataset) -> None:
    assert resolve(SPEC, clips, source=SOURCE).transfer.input_rule == "sum"


def test_a_dataset_without_training_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        resolve(SPEC, pack(tmp_path, [np.ones(8000, np.int16)] * 3, split="test"), source=None)


def test_architecture() -> None:
    def named(base_model: str | None) -> JobSpec:
        return SPEC.model_copy(update={"base_model": base_model})

    seed = SOURCE.model_copy(update={"architecture": "seed_cnn"})
    assert architecture_of(named(None), None) == "resnet_tiny"
    assert architecture_of(named("seed_cnn"), None) == "seed_cnn"
    assert architecture_of(named("mdl_5"), seed) == "seed_cnn"
    with pytest.raises(ConfigError) as caught:
        architecture_of(named("mdl_5"), None)
    assert caught.value.code == "backbone_unknown"


def test_network_config_of_a_seed_cnn_that_carries_its_classifier(clips: PackedDataset) -> None:
    source = SOURCE.model_copy(update={"architecture": "seed_cnn", "labels": tuple("abcdefg")})
    normalization = Normalization(mean=(0.0,) * 40, std=(1.0,) * 40)
    for mode, classes in (("full", 7), ("partial", None), ("none", None)):
        spec = resolve(SPEC.model_copy(update={"transfer": TransferConfig(mode=mode)}), clips, source=source)
        config = network_config(spec, modality="audio", labels=("x", "y"), normalization=normalization, source=source)
        assert config.source_classes == classes
        assert config.architecture == "seed_cnn"
        assert config.features == spec.features


def test_until_leaves_out_the_last_stage() -> None:
    assert default_until(registry.outline("resnet_tiny")) == "layer3"
    assert default_until(registry.outline("seed_cnn")) == "conv2"
    assert default_until(registry.outline("timm/resnet18")) == "layer3"
    assert default_until(registry.outline("timm/vit_tiny_patch16_224")) == "blocks.10"


class Sized:
    """What the recipes read of a dataset of `n` clips of one second, by so many voices in turn; none: nobody knows whose."""

    modality, labels, grey = "audio", ("x", "y"), False

    def __init__(self, n: int, voices: int | None = None) -> None:
        self._n = n
        self.item_labels = np.arange(n) % len(self.labels)
        self.item_groups = np.full(n, -1) if voices is None else np.arange(n) // len(self.labels) % voices

    def indices(self, split: Split) -> np.ndarray[Any, Any]:
        return np.arange(self._n if split == "train" else 0)

    def durations(self) -> np.ndarray[Any, Any]:
        return np.ones(self._n)


def plan_for(n: int, optimizer: OptimizerName = "adamw") -> Plan:
    spec = SPEC.model_copy(update={"hyperparameters": Hyperparameters(optimizer=optimizer)})
    return Plan.of(resolve(spec, Sized(n), source=None), n)


@given(n=st.integers(60, 100_000))
def test_steps_stay_in_proportion(n: int) -> None:
    plan = plan_for(n)
    assert 300 <= plan.steps <= 2800
    assert 3 <= plan.epochs <= 200


def test_takes_of_one_voice_are_soon_no_news() -> None:
    def steps(n: int, voices: int | None) -> int:
        return Plan.of(resolve(SPEC, Sized(n, voices), source=None), n).steps

    assert steps(2000, 200) == steps(2000, None), "five takes of a word by each voice"
    assert steps(2000, 100) == steps(2000, None), "ten"
    assert steps(2000, 3) < 0.4 * steps(2000, None)
    assert steps(2000, 3) == pytest.approx(steps(60, None), rel=0.1), "as for three voices, two words and ten takes"


@given(n=st.integers(2, 100_000))
def test_full_batch_descent_is_granted_updates_it_can_pay_for(n: int) -> None:
    plan = plan_for(n, "gd")
    assert 20 <= plan.epochs <= 300
    assert plan.epochs * n <= 2_000_000


def test_rates_follow_optimizer_and_architecture(clips: PackedDataset) -> None:
    def rate(optimizer: OptimizerName, base_model: str | None) -> Any:
        spec = SPEC.model_copy(update={"hyperparameters": Hyperparameters(optimizer=optimizer), "base_model": base_model})
        return resolve(spec, clips, source=None).hyperparameters.learning_rate

    assert rate("adamw", None) == OPTIMIZERS["adamw"].learning_rate
    assert rate("gd", None) > rate("sgd", None) > rate("adamw", None) > rate("adamw", "seed_cnn") > rate("adamw", "timm/resnet18")
