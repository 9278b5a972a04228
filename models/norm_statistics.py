"""Batch-norm statistics measured anew: for layers that meet inputs of another kind, and for weights that were never trained as they are."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.inputs import Inputs
from models.network import Network
from models.selection import spaced

_ITEMS = 2048  # the error of a mean over so many items is 2 % of their spread
_BATCH = 256


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalizations within, those with running statistics; none in attention networks and in seed_cnn."""
    return [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]


def statistics_batches(inputs: Inputs, indices: NDArray[np.int64]) -> Iterator[torch.Tensor]:
    """Yield inputs as serving sees them, shape (batch, …): up to 2048 of the items `indices`, shape (n,), evenly spaced."""
    chosen = spaced(indices, _ITEMS)
    for part in np.array_split(chosen, -(-len(chosen) // _BATCH)):
        yield inputs.clean(part)


@torch.no_grad()
def re_estimate(network: Network, batches: Iterable[torch.Tensor], *, layers: Iterable[str] | None = None) -> None:
    """Replace running means and variances by averages over `batches`, shape (batch, …) as the network takes them.

    Of the named layers only, where `layers` is given; all else stays as in evaluation, dropout included. Weights don't change.
    """
    norms = norms_of(network) if layers is None else [norm for name in layers for norm in norms_of(network.layer(name))]
    if not norms:
        return
    modes = [(module, module.training) for module in network.modules()]
    momenta = [(norm, norm.momentum) for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain average of all batches
        norm.train()
    for batch in batches:
        network(batch)
    for norm, momentum in momenta:
        norm.momentum = momentum
    for module, training in modes:
        module.training = training
