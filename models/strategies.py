"""The strategies of a transfer, each a line in a table: when carried layers begin to move, how fast, and what pulls them back.

All are pure functions of the job, the layers and how far training has come, so that a run that goes on needs no memory of them.
docs/transfer.md tells when each is worth trying.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from models.config import TransferConfig
from models.network import Network
from models.optimizers import Treatment

NEVER = math.inf
# ULMFiT (arXiv 1801.06146) thaws a layer an epoch; few epochs are run here, so all move by half of the updates and settle in the rest.
THAWED_BY = 0.5
# The head is a linear layer on fixed features and is found quickly; what it gets is lost to the rest of the network.
PROBE_SHARE = 0.2


@dataclass(frozen=True)
class Hold:
    """A reason for carried layers to stand still: layer → share of the updates before it moves (NEVER: not at all)."""

    wanted: Callable[[TransferConfig], bool]
    points: Callable[[tuple[str, ...], TransferConfig], dict[str, float]]


def one_after_another(layers: tuple[str, ...], transfer: TransferConfig) -> dict[str, float]:
    """Return evenly spaced points for layers given from input to output; before the first one only what isn't carried learns."""
    order = layers if transfer.thaw_from == "input" else layers[::-1]
    return {name: THAWED_BY * place / len(order) for place, name in enumerate(order, start=1)}


HOLDS: dict[str, Hold] = {
    "shared": Hold(lambda transfer: transfer.freeze == "shared", lambda layers, _: dict.fromkeys(layers, NEVER)),
    "gradual": Hold(lambda transfer: transfer.freeze == "gradual", one_after_another),
    "probe_first": Hold(lambda transfer: transfer.probe_first, lambda layers, _: dict.fromkeys(layers, PROBE_SHARE)),
}


def thaw_points(carried: tuple[str, ...], transfer: TransferConfig) -> dict[str, float]:
    """Return layer → share of the updates before it moves, for the carried layers that stand still at first, from input to output.

    Where two strategies hold a layer, the later point counts.
    """
    points = [hold.points(carried, transfer) for hold in HOLDS.values() if hold.wanted(transfer)]
    return {name: max(found[name] for found in points) for name in carried if points}


def held_layers(points: Mapping[str, float], update: int, total: int) -> tuple[str, ...]:
    """Return the layers that stand still in update number `update` (from 0) of `total`."""
    return tuple(name for name, share in points.items() if update < share * total)


def schedule_place(transfer: TransferConfig, update: int, total: int) -> tuple[int, int]:
    """Return where the learning rate's schedule stands: (update, total) of the phase that `update` (from 0) belongs to.

    Probing and what follows are two trainings, each with a warm-up of its own (arXiv 2202.10054): at the peak, which one cycle over both
    would have reached by then, the layers that the probe spared would be washed out.
    """
    if not transfer.probe_first:
        return update, total
    probed = math.ceil(PROBE_SHARE * total)
    return (update, probed) if update < probed else (update - probed, total - probed)


def patient_from(transfer: TransferConfig, points: Mapping[str, float], share: float) -> float:
    """Return from which share of the epochs patience counts, where the schedule alone says `share`: never before all layers move."""
    after_probe = PROBE_SHARE + (1 - PROBE_SHARE) * share if transfer.probe_first else share
    return max([after_probe, *(point for point in points.values() if point != NEVER)])


def pull_to_source(parameters: Mapping[str, nn.Parameter], source: Mapping[str, torch.Tensor], strength: float) -> None:
    """Add the gradient of strength / 2 · ‖w - source‖² (L2-SP, arXiv 1802.01483) to parameters that have a gradient.

    Both by key of the `state_dict()`. Acts on biases and norms too: the source's values are a better guess for them than zero is.
    """
    for name, origin in source.items():
        parameter = parameters[name]
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - origin, alpha=strength)


Penalty = Callable[[Mapping[str, nn.Parameter], Mapping[str, torch.Tensor], float], None]
PENALTIES: dict[Literal["none", "l2_sp"], Penalty | None] = {"none": None, "l2_sp": pull_to_source}


def treatments(network: Network, layer_decay: float, undecayed: Collection[str]) -> dict[nn.Parameter, Treatment]:
    """Return how the optimizer treats each parameter: the k-th layer from the head learns at layer_decay^k of the rate.

    `undecayed` names layers that another penalty regularizes in place of weight decay.
    """
    names = network.layer_names()
    found = {
        key: Treatment(layer_decay ** (len(names) - place), decays=name not in undecayed)
        for place, name in enumerate(names)
        for key in network.layer_keys(name)
    }
    return {parameter: found.get(key, Treatment()) for key, parameter in network.named_parameters()}
