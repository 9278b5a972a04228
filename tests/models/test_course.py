"""Strategies within the loop: each changes what comes out, holds what it says, and goes on exactly where it was interrupted."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.averaging import INTERPOLATION_GRID, Ema
from models.config import AugmentationConfig, FeatureConfig, Hyperparameters, JobSpec, NetworkConfig, TransferConfig
from models.errors import ArtifactError, Interrupted
from models.inputs import Inputs, compute_normalization
from models.network import Network, build_network
from models.training import FitResult, Trainer
from models.training_state import TrainingData

torch.set_num_threads(1)
FEATURES = FeatureConfig(sample_rate=8000, n_mels=16, hop_ms=20.0, clip_seconds=0.25, image_size=16)
LAYERS = ("stem", "layer1", "layer2", "layer3", "layer4")
LABELS = ("low", "middle", "high")
STEPS = 20  # 5 epochs of 4 batches
# Strategy → fields of transfer, fields of hyperparameters. All that there are, alone and where they meet.
STRATEGIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gradual": ({"freeze": "gradual"}, {}),
    "gradual from the input": ({"freeze": "gradual", "thaw_from": "input"}, {}),
    "probe first": ({"probe_first": True}, {}),
    "probe first, gradual": ({"probe_first": True, "freeze": "gradual"}, {}),
    "l2_sp": ({"regularize": "l2_sp"}, {}),
    "l2_sp, stronger": ({"regularize": "l2_sp", "regularize_strength": 1.0}, {}),
    "half": ({"interpolate": 0.5}, {}),
    "statistics": ({"statistics": "target"}, {}),
    "layer decay": ({}, {"layer_decay": 0.5}),
    "ema": ({}, {"average": "ema"}),
    "ema, statistics": ({"statistics": "target"}, {"average": "ema"}),
}


class ArrayItems:
    """Prepared clips that lie in memory."""

    def __init__(self, array: NDArray[np.int16]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: NDArray[np.int64]) -> NDArray[np.int16]:
        return self.array[indices]


@functools.cache
def data() -> TrainingData:
    """Tones of three pitches in noise."""
    random, indices = np.random.default_rng(5), np.arange(48)
    truth = indices % 3
    pitch = np.array([400.0, 1000.0, 2500.0])[truth] * random.uniform(0.9, 1.1, 48)
    waves = 0.3 * np.sin(2 * np.pi * pitch[:, None] * np.arange(2000) / 8000) + 0.02 * random.standard_normal((48, 2000))
    return TrainingData(
        items=ArrayItems((waves * 32767).astype(np.int16)),
        truth=truth.astype(np.int64),
        train=indices[:30],
        validation=indices[30:39],
        test=indices[39:],
        labels=LABELS,
        groups=np.full(48, -1),
    )


def spec_of(transfer: dict[str, Any] | None = None, **hyperparameters: Any) -> JobSpec:
    defaults: dict[str, Any] = {"epochs": 5, "batch_size": 8, "learning_rate": 3e-3, "weight_decay": 0.01, "precision": "fp32"}
    return JobSpec(
        dataset="ds_1",
        features=FEATURES,
        transfer=TransferConfig(mode="full", **(transfer or {})),
        augmentation=AugmentationConfig(flip=False, warp=False),  # tones differ by what a warp moves
        hyperparameters=Hyperparameters(**(defaults | {"early_stopping_patience": None} | hyperparameters)),
    )


def network_of(seed: int = 0) -> Network:
    normalization = compute_normalization(data().items, data().train, "audio", FEATURES)
    config = NetworkConfig(modality="audio", architecture="resnet_tiny", labels=LABELS, features=FEATURES, normalization=normalization)
    return build_network(config, seed=seed)


def trainer_of(spec: JobSpec, seed: int = 0) -> Trainer:
    return Trainer(network_of(seed), spec, data(), carried=LAYERS)


def fit(trainer: Trainer, stop_after: int | None = None, watch: Any = lambda _: None) -> FitResult:
    return trainer.fit(
        on_progress=lambda _: None,
        on_step=watch,
        should_stop=lambda: stop_after is not None and trainer.counters.step >= stop_after,
    )


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@functools.cache
def plain() -> dict[str, torch.Tensor]:
    trainer = trainer_of(spec_of())
    fit(trainer)
    return weights_of(trainer)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_changes_the_weights_and_can_be_interrupted(name: str) -> None:
    transfer, hyperparameters = STRATEGIES[name]
    spec = spec_of(transfer, **hyperparameters)
    whole = trainer_of(spec)
    expected = fit(whole)
    assert not same(plain(), weights_of(whole))

    trainer = trainer_of(spec)
    for step in (3, 9):  # before the probe's end and between two thaw points; in the middle of an epoch both times
        with pytest.raises(Interrupted):
            fit(trainer, stop_after=step)
        saved = trainer.state()
        trainer = trainer_of(spec, seed=90 + step)  # all that counts comes from the checkpoint
        trainer.load_state(*saved)
    result = fit(trainer)
    assert same(weights_of(whole), weights_of(trainer))
    assert same(expected.best_state, result.best_state)
    assert same(result.best_state, weights_of(trainer))


@pytest.mark.parametrize("optimizer", ["sgd", "gd", "adagrad"])
def test_other_optimizers_are_interrupted_as_exactly(optimizer: str) -> None:
    spec = spec_of({"freeze": "gradual", "regularize": "l2_sp"}, optimizer=optimizer, layer_decay=0.7, average="ema", learning_rate=0.01)
    whole = trainer_of(spec)
    fit(whole)
    first = trainer_of(spec)
    with pytest.raises(Interrupted):
        fit(first, stop_after=10)
    second = trainer_of(spec, seed=99)
    second.load_state(*first.state())
    fit(second)
    assert same(weights_of(whole), weights_of(second))


def moved_at(transfer: dict[str, Any]) -> dict[str, int]:
    """Return layer → the first step (from 1) that changed any of its tensors, its statistics among them."""
    trainer = trainer_of(spec_of(transfer))
    before, found = weights_of(trainer), {}

    def watch(it: Trainer) -> None:
        now = it.network.state_dict()
        for name in LAYERS:
            if name not in found and any(not torch.equal(before[key], now[key]) for key in it.network.layer_keys(name)):
                found[name] = it.counters.step

    fit(trainer, watch=watch)
    return found


def test_gradual_leaves_a_layer_alone_until_its_turn() -> None:
    # Points 0.1 to 0.5 of 20 updates: update number 2 is the third, and so on.
    assert moved_at({"freeze": "gradual"}) == {"layer4": 3, "layer3": 5, "layer2": 7, "layer1": 9, "stem": 11}
    assert moved_at({"freeze": "gradual", "thaw_from": "input"}) == {"stem": 3, "layer1": 5, "layer2": 7, "layer3": 9, "layer4": 11}


def test_probing_moves_the_head_alone_for_a_fifth() -> None:
    assert moved_at({"probe_first": True}) == dict.fromkeys(LAYERS, 5)
    assert moved_at({}) == dict.fromkeys(LAYERS, 1)
    trainer = trainer_of(spec_of({"probe_first": True}))
    before = trainer.network.head.weight.detach().clone()
    with pytest.raises(Interrupted):
        fit(trainer, stop_after=1)
    assert not torch.equal(before, trainer.network.head.weight)


def test_the_rate_begins_anew_after_the_probe() -> None:
    trainer = trainer_of(spec_of({"probe_first": True}, schedule="one_cycle"))
    rates: list[float] = []
    fit(trainer, watch=lambda it: rates.append(it._state.optimizer.param_groups[0]["lr"]))
    assert rates[0] == rates[4] == pytest.approx(3e-3 / 25)
    assert max(rates[:4]) == pytest.approx(3e-3, rel=0.2)
    assert rates[19] < rates[10]


def test_the_pull_keeps_carried_layers_near_the_source_and_not_the_head() -> None:
    distances = {}
    for strength in (None, 10.0):
        transfer = {} if strength is None else {"regularize": "l2_sp", "regularize_strength": strength}
        # A rate of 0.05 runs wild from random weights, and how far it gets differs from one kind of processor to another.
        trainer = trainer_of(spec_of(transfer, optimizer="sgd", learning_rate=0.01, gradient_clip=None, schedule="constant"))
        before = {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}
        fit(trainer)
        moved = {name: float((parameter.detach() - before[name]).norm()) for name, parameter in trainer.network.named_parameters()}
        distances[strength] = sum(moved[name] for name in before if name.startswith("backbone.")), moved["head.weight"]
    assert distances[10.0][0] < 0.8 * distances[None][0]
    assert distances[10.0][1] > 0.5 * distances[None][1]


def test_plain_decay_leaves_pulled_layers_to_the_pull() -> None:
    trainer = trainer_of(spec_of({"regularize": "l2_sp"}))
    groups = trainer._state.optimizer.param_groups
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert decayed == {id(trainer.network.head.weight)}


def test_the_average_is_what_is_validated_and_kept() -> None:
    trainer = trainer_of(spec_of(average="ema", epochs=1))
    reference = Ema(network_of())
    fit(trainer, watch=lambda it: reference.follow(it.network, it.counters.step - 1))
    best = trainer._state.best
    assert all(torch.equal(best[name], tensor) for name, tensor in reference.tensors.items())
    trainer.network.eval()
    with torch.no_grad():
        logits = trainer.network(Inputs(data().items, "audio", FEATURES).clean(data().validation))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data().truth[data().validation]))
    assert trainer.counters.best_loss == pytest.approx(float(loss), rel=1e-4)


def test_interpolating_mixes_carried_weights_and_measures_statistics_anew() -> None:
    trainer = trainer_of(spec_of({"interpolate": 0.25}))
    source = weights_of(trainer)
    result = fit(trainer)
    tuned, mixed = trainer._state.best, weights_of(trainer)
    for key in ("backbone.stem.0.weight", "backbone.layer4.bn2.bias"):
        torch.testing.assert_close(mixed[key], 0.75 * source[key] + 0.25 * tuned[key])
    assert torch.equal(mixed["head.weight"], tuned["head.weight"])
    key = "backbone.layer2.bn1.running_mean"
    assert not torch.allclose(mixed[key], torch.lerp(source[key], tuned[key], 0.25), rtol=1e-3)
    assert trainer.interpolation == 0.25
    assert trainer.best_loss == result.metrics["validation_loss"] != trainer.counters.best_loss


def test_auto_takes_the_share_that_validates_best() -> None:
    trainer = trainer_of(spec_of({"interpolate": "auto"}, learning_rate=0.01))
    result = fit(trainer)
    scores = {}
    for share in INTERPOLATION_GRID:
        other = trainer_of(spec_of({"interpolate": share}, learning_rate=0.01))
        metrics = fit(other).metrics
        scores[share] = (metrics["validation_accuracy"], -metrics["validation_loss"])
    assert trainer.interpolation == max(scores, key=lambda share: scores[share])
    assert (result.metrics["validation_accuracy"], -result.metrics["validation_loss"]) == pytest.approx(max(scores.values()))


def test_statistics_are_of_the_new_items_before_the_first_step() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    trainer = trainer_of(spec_of({"statistics": "target", "freeze": "shared"}))
    trainer = Trainer(network_of(), trainer.spec, data(), carried=LAYERS, frozen=LAYERS)
    before = weights_of(trainer)
    fit(trainer, watch=lambda it: seen.append(weights_of(it)))
    key = "backbone.stem.1.running_var"
    assert not torch.equal(before[key], seen[0][key])
    assert torch.equal(seen[0][key], seen[-1][key]), "measured once, then held with the frozen layers"
    assert torch.equal(before["backbone.stem.0.weight"], seen[-1]["backbone.stem.0.weight"])


def test_a_checkpoint_without_what_the_strategy_needs_is_refused() -> None:
    trainer = trainer_of(spec_of(average="ema"))
    tensors, meta = trainer.state()
    assert {name.split("/", 1)[0] for name in trainer_of(spec_of({"regularize": "l2_sp"})).state()[0]} >= {"source"}
    with pytest.raises(ArtifactError) as caught:
        trainer.load_state({name: tensor for name, tensor in tensors.items() if name != "average/head.weight"}, meta)
    assert caught.value.code == "checkpoint_mismatch"


def test_a_checkpoint_from_before_the_strategies_is_taken() -> None:
    trainer = trainer_of(spec_of())
    tensors, meta = trainer.state()
    for field in ("thaw_from", "probe_first", "regularize", "interpolate", "statistics", "input_rule"):
        del meta["spec"]["transfer"][field]
    trainer_of(spec_of()).load_state(tensors, meta)
