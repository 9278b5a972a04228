"""The loss and the weights of labels."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from models.losses import label_weights, one_hot, weighted_cross_entropy


@given(truth=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_label_weights_even_out_the_labels(truth: list[int]) -> None:
    labels = np.array(truth)
    weights = label_weights(labels, 5).numpy()
    totals = [weights[label] * (labels == label).sum() for label in set(truth)]
    assert np.allclose(totals, totals[0], rtol=1e-4)
    assert math.isclose(weights[labels].mean(), 1.0, rel_tol=1e-4)


def test_loss_agrees_with_torchs() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(9, 4), torch.randint(0, 4, (9,))
    mine = weighted_cross_entropy(logits, one_hot(truth, 4), torch.ones(4), 0.1)
    torch.testing.assert_close(mine, functional.cross_entropy(logits, truth, label_smoothing=0.1))
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0])
    mine = weighted_cross_entropy(logits, one_hot(truth, 4), weights, 0.0)
    torch.testing.assert_close(mine, functional.cross_entropy(logits, truth, weight=weights, reduction="sum") / 9)


def test_parts_of_a_set_add_up_to_the_whole() -> None:
    torch.manual_seed(1)
    logits, targets, weights = torch.randn(10, 3), one_hot(torch.arange(10) % 3, 3), torch.tensor([0.5, 1.0, 2.0])
    parts = [
        weighted_cross_entropy(logits[cut], targets[cut], weights, 0.1) * size / 10 for cut, size in ((slice(0, 4), 4), (slice(4, 10), 6))
    ]
    torch.testing.assert_close(parts[0] + parts[1], weighted_cross_entropy(logits, targets, weights, 0.1))
