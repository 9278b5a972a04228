"""The loop: it learns, it repeats, it goes on where it was interrupted, it stops when told."""

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.config import AugmentationConfig, EvaluationConfig, FeatureConfig, Hyperparameters, JobSpec, NetworkConfig
from models.errors import ArtifactError, Interrupted, TrainingError
from models.inputs import Inputs, compute_normalization
from models.losses import label_weights, one_hot, weighted_cross_entropy
from models.network import Network, build_network
from models.training import FitResult, Progress, Trainer
from models.training_state import TrainingData, epoch_batches
from tests.conftest import NO_AUGMENTATION

torch.set_num_threads(1)  # more threads than the tiny tensors are worth cost more than they bring

FEATURES = FeatureConfig(sample_rate=8000, n_mels=16, hop_ms=20.0, clip_seconds=0.25, image_size=16)
LABELS = ("low", "middle", "high")


class ArrayItems:
    """Prepared items that lie in memory."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self.array[indices]


def tones(count: int = 48) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return int16 clips (count, 2000), tones of 400, 1000 or 2500 Hz in noise, and which of them each is."""
    random = np.random.default_rng(5)
    truth = np.arange(count) % 3
    pitch = np.array([400.0, 1000.0, 2500.0])[truth] * random.uniform(0.9, 1.1, count)
    time = np.arange(2000) / 8000
    waves = 0.3 * np.sin(2 * np.pi * pitch[:, None] * time + random.uniform(0, 6, (count, 1))) + 0.02 * random.standard_normal(
        (count, 2000)
    )
    return (waves * 32767).astype(np.int16), truth.astype(np.int64)


def patches(count: int = 48) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return uint8 pictures (count, 16, 16, 3), bright in the upper, middle or lower third, and which of them each is."""
    random = np.random.default_rng(6)
    truth = np.arange(count) % 3
    pictures = random.integers(0, 60, (count, 16, 16, 3))
    for index, third in enumerate(truth):
        pictures[index, 5 * third : 5 * third + 5] += 150
    return pictures.astype(np.uint8), truth.astype(np.int64)


def data_of(items: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], n_train: int = 30) -> TrainingData:
    indices = np.arange(len(items))
    held = (len(items) - n_train) // 2
    return TrainingData(
        items=ArrayItems(items),
        truth=truth,
        train=indices[:n_train],
        validation=indices[n_train : n_train + held],
        test=indices[n_train + held :],
        labels=LABELS,
        groups=np.full(len(items), -1),
    )


def spec_of(augmentation: AugmentationConfig | None = None, seed: int = 0, **hyperparameters: Any) -> JobSpec:
    defaults: dict[str, Any] = {"epochs": 3, "batch_size": 8, "learning_rate": 3e-3, "weight_decay": 0.01, "precision": "fp32"}
    return JobSpec(
        dataset="ds_1",
        seed=seed,
        features=FEATURES,
        augmentation=augmentation or AugmentationConfig(flip=False, warp=False, echo=False),  # tones differ by what a warp moves
        hyperparameters=Hyperparameters(**(defaults | hyperparameters)),
    )


def network_of(data: TrainingData, architecture: str = "resnet_tiny", seed: int = 0, features: FeatureConfig = FEATURES) -> Network:
    modality = "audio" if data.items.batch(data.train[:1]).ndim == 2 else "image"
    normalization = compute_normalization(data.items, data.train, modality, features)
    return build_network(
        NetworkConfig(modality=modality, architecture=architecture, labels=data.labels, features=features, normalization=normalization),
        seed=seed,
    )


def trainer_of(spec: JobSpec | None = None, data: TrainingData | None = None, **options: Any) -> Trainer:
    data = data or data_of(*tones())
    return Trainer(network_of(data), spec or spec_of(), data, **options)


def fit(trainer: Trainer, stop_after: int | None = None) -> FitResult:
    """Train; `stop_after` steps the caller wants no more."""
    return trainer.fit(
        on_progress=lambda _: None,
        on_step=lambda _: None,
        should_stop=lambda: stop_after is not None and trainer.counters.step >= stop_after,
    )


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def accuracy(trainer: Trainer, indices: np.ndarray[Any, Any]) -> float:
    trainer.network.eval()
    inputs = Inputs(trainer.data.items, trainer.network.config.modality, FEATURES)
    with torch.no_grad():
        guess = trainer.network(inputs.clean(indices)).argmax(dim=1).numpy()
    return float((guess == trainer.data.truth[indices]).mean())


@pytest.mark.parametrize("make", [tones, patches])
def test_learns_what_can_be_learnt(make: Any) -> None:
    trainer = trainer_of(spec_of(epochs=12), data_of(*make()))
    result = fit(trainer)
    assert accuracy(trainer, trainer.data.test) == 1.0
    assert result.stopped == "finished"
    assert result.metrics["validation_accuracy"] == 1.0
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_same_seed_ends_with_the_same_bits_and_another_seed_with_others() -> None:
    runs = []
    for seed in (3, 3, 4):
        trainer = trainer_of(spec_of(seed=seed, epochs=2, augmentation=AugmentationConfig(mixup=0.3, flip=False)))
        fit(trainer)
        runs.append(weights_of(trainer))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_draws_do_not_depend_on_what_else_used_torchs_generator() -> None:
    runs = []
    for noise in (1, 7):
        torch.rand(noise)
        trainer = trainer_of(spec_of(epochs=1))
        fit(trainer)
        runs.append(weights_of(trainer))
    assert same(*runs)


@pytest.mark.parametrize(
    ("optimizer", "stop_after"),
    [("adamw", 1), ("adamw", 4), ("adamw", 8), ("sgd", 3), ("gd", 3), ("gd", 4), ("gd", 6), ("adagrad", 5), ("rmsprop", 5), ("adam", 5)],
)
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(optimizer: str, stop_after: int) -> None:
    spec = spec_of(epochs=2, optimizer=optimizer, learning_rate=0.01)  # 4 steps an epoch: mid-epoch, its end, and the very end
    whole = trainer_of(spec)
    expected = fit(whole)

    first = trainer_of(spec)
    with pytest.raises(Interrupted):
        fit(first, stop_after=stop_after)
    tensors, meta = first.state()
    second = Trainer(network_of(first.data, seed=99), spec, first.data)
    second.load_state(tensors, meta)
    result = fit(second)

    assert same(weights_of(whole), weights_of(second))
    assert same(expected.best_state, result.best_state)
    assert expected.best_epoch == result.best_epoch
    losses = [[entry["train_loss"] for entry in history] for history in (expected.history, result.history)]
    assert losses[0] == losses[1]


def test_resumed_at_every_step_equals_uninterrupted() -> None:
    spec = spec_of(epochs=2)
    whole = trainer_of(spec)
    fit(whole)
    trainer = trainer_of(spec)
    for step in range(1, 9):
        with pytest.raises(Interrupted):
            fit(trainer, stop_after=step)
        saved = trainer.state()
        trainer = Trainer(network_of(trainer.data, seed=step), spec, trainer.data)
        trainer.load_state(*saved)
    fit(trainer)
    assert same(weights_of(whole), weights_of(trainer))


def test_state_is_a_copy_and_survives_json_and_a_flat_dict() -> None:
    trainer = trainer_of(spec_of(epochs=2))
    with pytest.raises(Interrupted):
        fit(trainer, stop_after=5)
    tensors, meta = trainer.state()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    fit(trainer)
    assert same(before, tensors)
    assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors.values())
    assert {name.split("/", 1)[0] for name in tensors} == {"model", "best", "optimizer", "running"}
    assert isinstance(meta["counters"]["history"], list)


def test_state_after_the_end_gives_the_result_again() -> None:
    trainer = trainer_of(spec_of(epochs=2))
    expected = fit(trainer)
    again = trainer_of(spec_of(epochs=2))
    again.load_state(*trainer.state())
    result = fit(again)
    assert result.best_epoch == expected.best_epoch
    assert same(result.best_state, expected.best_state)


def test_state_of_another_job_or_network_is_refused() -> None:
    trainer = trainer_of()
    tensors, meta = trainer.state()
    with pytest.raises(ArtifactError) as caught:
        trainer_of(spec_of(seed=8)).load_state(tensors, meta)
    assert caught.value.code == "checkpoint_mismatch"
    del tensors["model/head.weight"]
    with pytest.raises(ArtifactError):
        trainer_of().load_state(tensors, meta)
    with pytest.raises(ArtifactError):
        trainer_of().load_state({"nonsense": torch.zeros(1)}, meta)


def test_reports_every_step_and_every_epoch() -> None:
    reports: list[Progress] = []
    steps: list[int] = []
    trainer = trainer_of(spec_of(epochs=2))
    trainer.fit(on_progress=reports.append, on_step=lambda it: steps.append(it.counters.step), should_stop=lambda: False)
    assert steps == list(range(1, 9))
    training = [report for report in reports if report.phase == "training"]
    assert [(report.epoch, report.step, report.metrics) for report in training] == [(1 + i // 4, i + 1, None) for i in range(8)]
    assert all(report.steps == 8 and report.epochs == 2 and report.samples_per_second > 0 for report in training)
    ends = [report.metrics for report in reports if report.phase == "validation"]
    expected = {"epoch", "step", "train_loss", "validation_loss", "validation_accuracy", "learning_rate", "samples_per_second"}
    assert [metrics and metrics.keys() == expected for metrics in ends] == [True, True]


def test_a_loss_that_is_no_number_ends_training_with_advice() -> None:
    trainer = trainer_of(spec_of(optimizer="sgd", learning_rate=100.0, gradient_clip=None, schedule="constant", epochs=40))
    with torch.no_grad():
        trainer.network.head.weight.fill_(1e38)
    with pytest.raises(TrainingError) as caught:
        fit(trainer)
    assert caught.value.code == "loss_not_finite"
    assert caught.value.hint
    with pytest.raises(TrainingError):
        trainer.state()


class HungryItems(ArrayItems):
    def batch(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if len(indices) > 4:
            torch.empty(2**60)  # torch's own refusal, as when a batch is too large
        return super().batch(indices)


def test_memory_that_runs_out_is_said_so() -> None:
    data = data_of(*tones())
    trainer = Trainer(network_of(data), spec_of(), replace(data, items=HungryItems(tones()[0])))
    with pytest.raises(TrainingError) as caught:
        fit(trainer)
    assert caught.value.code == "out_of_memory"
    assert "batch_size" in str(caught.value.hint)


def test_other_errors_of_torch_are_not_dressed_up() -> None:
    trainer = trainer_of()
    with pytest.raises(RuntimeError, match="of another kind"):
        trainer.fit(on_progress=lambda _: None, should_stop=lambda: False, on_step=lambda _: raise_runtime_error())


def raise_runtime_error() -> None:
    message = "of another kind"
    raise RuntimeError(message)


def test_time_limit_ends_after_a_step_and_keeps_a_model() -> None:
    trainer = trainer_of(spec_of(epochs=50, max_seconds=1e-6))
    result = fit(trainer)
    assert result.stopped == "time"
    assert trainer.counters.step == 1
    assert result.best_epoch == 1
    assert "validation_loss" in result.metrics


def test_time_counts_across_interruptions() -> None:
    trainer = trainer_of(spec_of(epochs=2, max_seconds=1e6))
    with pytest.raises(Interrupted):
        fit(trainer, stop_after=1)
    tensors, meta = trainer.state()
    meta["counters"]["seconds"] = 2e6
    resumed = trainer_of(spec_of(epochs=2, max_seconds=1e6))
    resumed.load_state(tensors, meta)
    assert fit(resumed).stopped == "time"
    assert resumed.counters.step == 2


def shuffled_labels(data: TrainingData) -> TrainingData:
    """Return data whose validation labels are wrong, so that learning raises the validation loss."""
    truth = data.truth.copy()
    truth[data.validation] = (truth[data.validation] + 1) % 3
    return replace(data, truth=truth)


def test_early_stopping_keeps_the_best_epoch() -> None:
    data = shuffled_labels(data_of(*tones()))
    trainer = Trainer(network_of(data), spec_of(epochs=40, schedule="constant", early_stopping_patience=3), data)
    result = fit(trainer)
    scores = [(entry["validation_accuracy"], -entry["validation_loss"]) for entry in result.history]
    assert result.stopped == "early"
    assert result.best_epoch == 1 + scores.index(max(scores))
    assert len(scores) == result.best_epoch + 3
    assert same(weights_of(trainer), result.best_state)


def test_patience_begins_when_the_schedule_settles() -> None:
    data = shuffled_labels(data_of(*tones()))
    trainer = Trainer(network_of(data), spec_of(epochs=10, schedule="one_cycle", early_stopping_patience=1), data)
    assert len(fit(trainer).history) >= 7


def test_without_validation_items_the_last_weights_are_the_best() -> None:
    data = data_of(*tones())
    trainer = trainer_of(spec_of(epochs=2), replace(data, validation=np.zeros(0, np.int64)))
    result = fit(trainer)
    assert result.best_epoch == 2
    assert "validation_loss" not in result.metrics


def test_frozen_layers_keep_weights_and_statistics() -> None:
    trainer = trainer_of(frozen=("stem", "layer1"))
    before = weights_of(trainer)
    fit(trainer)
    after = weights_of(trainer)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in moved if name.startswith(("backbone.stem.", "backbone.layer1."))]
    assert {"backbone.layer2.conv1.weight", "backbone.layer2.bn1.running_mean", "head.weight"} <= moved


def test_a_job_that_rejects_keeps_the_weights_that_answer_most_while_few_unknown_words_pass() -> None:
    spec = spec_of(epochs=6, learning_rate=3e-3).model_copy(update={"evaluation": EvaluationConfig(unknown_false_accept=0.01)})
    result = fit(trainer_of(spec))
    answered = [(metrics["validation_answered"], -metrics["validation_loss"]) for metrics in result.history]
    assert result.best_epoch == 1 + answered.index(max(answered))
    assert all(metrics["validation_answered"] <= metrics["validation_accuracy"] for metrics in result.history)
    assert len({share for share, _ in answered}) > 1, "epochs differ in it"
    assert "validation_answered" not in fit(trainer_of(spec_of(epochs=1))).metrics


@pytest.mark.parametrize(
    "other",
    [
        spec_of(optimizer="sgd"),
        spec_of(weight_decay=0.5),
        spec_of(schedule="cosine"),
        spec_of(label_smoothing=0.3),
        spec_of(gradient_clip=None),
        spec_of(balance_classes=False),
        spec_of(batch_size=16),
        spec_of(learning_rate=1e-3),
        spec_of(augmentation=AugmentationConfig(flip=False, warp=False, echo=False, mixup=0.5)),
        spec_of(augmentation=AugmentationConfig(flip=False, warp=False, echo=False, spec_augment=False)),
        spec_of(augmentation=AugmentationConfig(flip=False, warp=False, echo=False, time_shift=False)),
        spec_of(augmentation=AugmentationConfig(flip=False, warp=False, echo=False, noise=False)),
        spec_of(augmentation=AugmentationConfig(flip=False, warp=False, echo=False, speed=False)),
        spec_of(augmentation=AugmentationConfig(flip=False, warp=False, echo=False, tempo=False)),
        spec_of(augmentation=AugmentationConfig(flip=False, warp=False, echo=True)),
        spec_of(augmentation=AugmentationConfig(flip=False, echo=False, warp=True)),
        spec_of().model_copy(update={"evaluation": EvaluationConfig(unknown_false_accept=0.01)}),
    ],
)
def test_every_choice_changes_the_weights(other: JobSpec) -> None:
    assert not same(weights_after_an_epoch(spec_of().model_dump_json()), weights_after_an_epoch(other.model_dump_json()))


def test_half_precision_changes_the_weights_and_repeats() -> None:
    # Shorter hops than elsewhere: for maps one pixel wide torch 2.11's CPU kernel leaves parts of a bf16 weight gradient unwritten.
    wide = {"features": FEATURES.model_copy(update={"hop_ms": 5.0})}
    full, half = (spec_of(precision=precision).model_copy(update=wide).model_dump_json() for precision in ("fp32", "bf16"))
    assert not same(weights_after_an_epoch(full), weights_after_an_epoch(half))
    assert same(weights_after_an_epoch(half), weights_after_an_epoch.__wrapped__(half))


@functools.cache
def weights_after_an_epoch(job: str) -> dict[str, torch.Tensor]:
    """Return the weights after an epoch over labels of unequal frequency, so that balancing has something to do."""
    spec = JobSpec.model_validate_json(job)
    short = spec.model_copy(update={"hyperparameters": spec.hyperparameters.model_copy(update={"epochs": 1})})
    data = data_of(*tones(32), n_train=16)
    trainer = Trainer(network_of(data, features=short.features), short, data)
    fit(trainer)
    return weights_of(trainer)


@pytest.mark.parametrize("field", ["flip", "crop", "erase"])
def test_picture_augmentation_changes_the_weights(field: str) -> None:
    runs = []
    for on in (False, True):
        augmentation = AugmentationConfig(**({"flip": False, "crop": False} | {field: on}))
        trainer = trainer_of(spec_of(augmentation=augmentation, epochs=1), data_of(*patches()))
        fit(trainer)
        runs.append(weights_of(trainer))
    assert not same(*runs)


def test_gd_makes_one_update_an_epoch_with_the_gradient_of_the_whole_set() -> None:
    data = data_of(*tones())
    spec = spec_of(
        NO_AUGMENTATION,
        optimizer="gd",
        epochs=1,
        learning_rate=0.1,
        schedule="constant",
        gradient_clip=None,
        weight_decay=0.0,
        batch_size=7,
    )
    trainer = Trainer(network_of(data, "seed_cnn"), spec, data)  # no batch statistics: batches don't see one another

    reference = network_of(data, "seed_cnn")
    logits = reference(Inputs(data.items, "audio", FEATURES).clean(data.train))
    targets = one_hot(torch.from_numpy(data.truth[data.train]), 3)
    weighted_cross_entropy(logits, targets, label_weights(data.truth[data.train], 3), 0.05).backward()
    expected = {
        name: (parameter - 0.1 * parameter.grad).detach() for name, parameter in reference.named_parameters() if parameter.grad is not None
    }

    fit(trainer)
    assert trainer.plan.batches == 5
    for name, tensor in expected.items():
        torch.testing.assert_close(dict(trainer.network.named_parameters())[name].detach(), tensor, atol=1e-6, rtol=1e-4)


def test_one_step_of_sgd_agrees_with_torch_written_out() -> None:
    data = data_of(*patches(12), n_train=8)
    quiet = AugmentationConfig(crop=False, flip=False)
    spec = spec_of(quiet, optimizer="sgd", epochs=1, learning_rate=0.1, schedule="constant", label_smoothing=0.1, balance_classes=False)
    trainer = Trainer(network_of(data), spec, data)
    reference = network_of(data)
    order = epoch_batches(data.train, 1, seed=0, epoch=0)[0]
    logits = reference(torch.from_numpy(data.items.batch(order)).permute(0, 3, 1, 2) / 255)
    functional.cross_entropy(logits, torch.from_numpy(data.truth[order]), label_smoothing=0.1).backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    decayed = [parameter for parameter in reference.parameters() if parameter.dim() >= 2]
    plain = [parameter for parameter in reference.parameters() if parameter.dim() < 2]
    torch.optim.SGD([{"params": decayed, "weight_decay": 0.01}, {"params": plain}], lr=0.1, momentum=0.9).step()
    fit(trainer)
    for (name, mine), theirs in zip(trainer.network.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.detach(), theirs.detach(), atol=1e-5, rtol=1e-4, msg=name)


def test_best_weights_can_be_had_before_the_end() -> None:
    trainer = trainer_of(spec_of(epochs=3))
    with pytest.raises(Interrupted):
        fit(trainer, stop_after=6)
    tensors, _ = trainer.state()
    trainer.restore_best()
    best = {name.removeprefix("best/"): tensor for name, tensor in tensors.items() if name.startswith("best/")}
    assert same(weights_of(trainer), best)
