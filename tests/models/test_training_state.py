"""The plan of a run, and the batches that every epoch is cut into."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import Hyperparameters, JobSpec
from models.errors import ConfigError, DatasetError
from models.training_state import ORDER, Clock, Counters, Plan, TrainingData, batches_per_epoch, epoch_batches, generator_for, seed_of


def test_an_open_auto_is_refused() -> None:
    with pytest.raises(ConfigError):
        Plan.of(JobSpec(dataset="ds_1"), 10)


@given(n_items=st.integers(1, 500), batch_size=st.integers(1, 64))
def test_batches_cover_the_items_once_and_none_is_single(n_items: int, batch_size: int) -> None:
    batches = epoch_batches(np.arange(n_items), batches_per_epoch(n_items, batch_size), seed=1, epoch=2)
    assert sorted(itertools.chain.from_iterable(batch.tolist() for batch in batches)) == list(range(n_items))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(2, n_items)
    assert max(sizes) <= max(batch_size, 3)


def test_every_epoch_has_its_own_order() -> None:
    orders = [np.concatenate(epoch_batches(np.arange(40), 4, seed, epoch)).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_full_batch_updates_once_an_epoch() -> None:
    chosen = Hyperparameters(epochs=3, batch_size=4, learning_rate=0.1, weight_decay=0.0)
    descent = Plan.of(JobSpec(dataset="ds_1", hyperparameters=chosen.model_copy(update={"optimizer": "gd"})), 12)
    assert [step for step in range(descent.steps) if descent.updates_after(step)] == [2, 5, 8]
    assert [descent.update_of(step) for step in (0, 2, 3, 8)] == [(0, 3), (0, 3), (1, 3), (2, 3)]
    stochastic = Plan.of(JobSpec(dataset="ds_1", hyperparameters=chosen), 12)
    assert all(stochastic.updates_after(step) for step in range(stochastic.steps))
    assert stochastic.update_of(8) == (8, 9)


@given(seed=st.integers(0, 2**31 - 1), stream=st.integers(0, 2), index=st.integers(0, 10**7))
def test_seeds_fit_torch_and_neighbours_differ(seed: int, stream: int, index: int) -> None:
    assert 0 <= seed_of(seed, stream, index) < 2**63
    near = {
        seed_of(seed, stream, index),
        seed_of(seed + 1, stream, index),
        seed_of(seed, stream + 1, index),
        seed_of(seed, stream, index + 1),
    }
    assert len(near) == 4
    assert generator_for(seed, ORDER, index).initial_seed() == seed_of(seed, ORDER, index)


def test_clock_goes_on_from_before_an_interruption() -> None:
    clock = Clock(100.0)
    clock.count(5)
    assert 100.0 <= clock.seconds < 160.0
    assert clock.rate > 0


def test_data_without_training_items_is_refused() -> None:
    class NoTraining:
        labels, group_names = ("a", "b"), ()
        item_labels = item_groups = np.zeros(3, np.int32)

        def indices(self, split: str) -> np.ndarray[Any, Any]:
            return np.arange(0 if split == "train" else 3)

    with pytest.raises(DatasetError):
        TrainingData.from_dataset(NoTraining(), np.zeros((3, 2000), np.int16))


@pytest.mark.parametrize(
    ("best", "found", "beaten"),
    [
        ((None, None), (0.1, 9.0), True),
        ((0.90, 0.30), (0.91, 0.50), True),  # accuracy decides, whatever the loss
        ((0.90, 0.30), (0.89, 0.10), False),
        ((0.90, 0.30), (0.90, 0.29), True),  # among equals the loss
        ((0.90, 0.30), (0.90, 0.30), False),  # the earlier one stays
        ((0.90, 0.30), (None, None), True),  # without validation items the last weights count
    ],
)
def test_the_better_epoch(best: tuple[float | None, float | None], found: tuple[float | None, float | None], beaten: bool) -> None:
    assert Counters(best_accuracy=best[0], best_loss=best[1]).beaten_by(*found) is beaten
