"""What training minimizes, and how labels weigh in it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def label_weights(truth: NDArray[np.int64], classes: int) -> torch.Tensor:
    """Return one weight a label, shape (classes,), float32: inverse to its frequency among `truth`, shape (n,), with mean 1 over items.

    A label without items weighs 1; it takes no part anyhow.
    """
    counts = np.bincount(truth, minlength=classes)
    present = max(1, int((counts > 0).sum()))
    weights = np.where(counts > 0, len(truth) / (present * np.maximum(counts, 1)), 1.0)
    return torch.tensor(weights, dtype=torch.float32)


def weighted_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the loss, shape (), of logits (batch, classes) against target distributions (batch, classes); weights have shape (classes,).

    Labels are smoothed by `smoothing` (arXiv 1512.00567, 7). Divided by the number of items, not by the sum of their weights: the mean of
    equal batches is then the mean over all items, which full-batch descent relies on.
    """
    smoothed = targets * (1 - smoothing) + smoothing / targets.shape[1]
    per_item = -(smoothed * functional.log_softmax(logits, dim=1)).sum(dim=1)
    return (per_item * (targets @ weights)).mean()


def one_hot(truth: torch.Tensor, classes: int) -> torch.Tensor:
    """Return target distributions, shape (batch, classes), float32, of label numbers, shape (batch,)."""
    return functional.one_hot(truth, classes).float()
