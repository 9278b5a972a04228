"""Averages of weights: along the way (exponential moving average), and between the source and what training made of it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

import torch

from models.network import Network

# Over the last thousand updates at most; a short run reaches 0.98 at 400 updates by the warm-up below.
EMA_DECAY = 0.999
# Shares of the trained weights that `auto` tries, the trained weights first: among equals they stay (grid after arXiv 2109.01903).
INTERPOLATION_GRID = (1.0, 0.9, 0.75, 0.5, 0.25)


class Average(Protocol):
    """Weights that follow those of a network."""

    tensors: dict[str, torch.Tensor]  # as `state_dict()`, part of a checkpoint

    def restart(self, network: Network) -> None:
        """Forget, and begin with the network's weights."""

    def follow(self, network: Network, update: int) -> None:
        """Take in the weights after update number `update` (from 0)."""


class Ema:
    """An exponential moving average of weights and batch-norm statistics, in float32 as they are."""

    def __init__(self, network: Network) -> None:
        """Begin with the network's weights, on their device."""
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def restart(self, network: Network) -> None:
        """Forget, and begin with the network's weights."""
        for name, tensor in network.state_dict().items():
            self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def follow(self, network: Network, update: int) -> None:
        """Move to the weights after update number `update` (from 0); counters of batches are taken as they are."""
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - ema_decay(update))
            else:
                self.tensors[name].copy_(tensor)


AVERAGES: dict[Literal["none", "ema"], Callable[[Network], Average] | None] = {"none": None, "ema": Ema}


def ema_decay(update: int) -> float:
    """Return how much of the average stays at update number `update` (from 0): little at first, where the weights are still poor."""
    return min(EMA_DECAY, (1 + update) / (10 + update))


@contextlib.contextmanager
def applied(network: Network, average: Average | None) -> Iterator[None]:
    """Let the network have the averaged weights within, and its own again afterwards, bit for bit."""
    if average is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(average.tensors)
    try:
        yield
    finally:
        network.load_state_dict(own)


@torch.no_grad()
def interpolated(source: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Return (1 - share) · source + share · tuned for the keys of `source`, and `tuned` for the others; both as a `state_dict()`."""
    mixed = {name: torch.lerp(origin, tuned[name].to(origin.device), share) for name, origin in source.items()}
    return dict(tuned) | mixed
