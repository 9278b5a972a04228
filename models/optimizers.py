"""Optimizers by name. A new one is a builder and a line in the table."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from models.config import OptimizerName

Groups = list[dict[str, object]]


@dataclass(frozen=True)
class OptimizerEntry:
    """How an optimizer is built, and with which values `auto` begins."""

    build: Callable[[Groups, float, float], Optimizer]  # (parameter groups, learning rate, momentum)
    learning_rate: float  # peak, for a network with batch normalization and batches of 16 to 128
    weight_decay: float
    full_batch: bool = False  # one update an epoch, with the gradient of all training items


@dataclass(frozen=True)
class Treatment:
    """How one parameter is treated differently from the others."""

    rate: float = 1.0  # share of the learning rate
    decays: bool = True  # whether weight decay may act on it


OPTIMIZERS: dict[OptimizerName, OptimizerEntry] = {
    # Decoupled decay (arXiv 1711.05101); with the adaptive ones without decoupling, decay is scaled away and left off.
    "adamw": OptimizerEntry(lambda groups, rate, _: AdamW(groups, lr=rate), learning_rate=3e-3, weight_decay=0.05),
    "adam": OptimizerEntry(lambda groups, rate, _: Adam(groups, lr=rate), learning_rate=3e-3, weight_decay=0.0),
    "sgd": OptimizerEntry(lambda groups, rate, momentum: SGD(groups, lr=rate, momentum=momentum), learning_rate=0.1, weight_decay=5e-4),
    "gd": OptimizerEntry(lambda groups, rate, _: SGD(groups, lr=rate), learning_rate=0.5, weight_decay=0.0, full_batch=True),
    "adagrad": OptimizerEntry(lambda groups, rate, _: Adagrad(groups, lr=rate), learning_rate=0.02, weight_decay=0.0),
    "rmsprop": OptimizerEntry(
        lambda groups, rate, momentum: RMSprop(groups, lr=rate, momentum=momentum), learning_rate=5e-4, weight_decay=0.0
    ),
}


def build_optimizer(
    name: OptimizerName,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    treatments: Mapping[nn.Parameter, Treatment] | None = None,
) -> Optimizer:
    """Return an optimizer over the parameters that require a gradient.

    Weight decay acts on matrices and kernels (two dimensions and more) only: pulling biases and norm scales to zero costs accuracy and
    regularizes nothing (arXiv 1812.01187, 3.1). `momentum` is for sgd and rmsprop; the others have none or their own.
    """
    optimizer = OPTIMIZERS[name].build(parameter_groups(parameters, weight_decay, treatments), learning_rate, momentum)
    set_learning_rate(optimizer, learning_rate)
    return optimizer


def parameter_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, treatments: Mapping[nn.Parameter, Treatment] | None = None
) -> Groups:
    """Return torch's parameter groups: for every share of the rate, first what decays, then what doesn't; an empty one is left out."""
    special = treatments or {}
    trained = [(parameter, special.get(parameter, Treatment())) for parameter in parameters if parameter.requires_grad]
    groups: Groups = []
    for rate in sorted({treatment.rate for _, treatment in trained}, reverse=True):
        alike = [(parameter, treatment.decays and parameter.dim() >= 2) for parameter, treatment in trained if treatment.rate == rate]
        for decays in (True, False):
            chosen = [parameter for parameter, decayed in alike if decayed is decays]
            groups.append({"params": chosen, "weight_decay": weight_decay if decays else 0.0, "rate_share": rate})
    return [group for group in groups if group["params"]]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Let the next update use `rate`, each group its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]


def optimizer_tensors(optimizer: Optimizer, names: dict[torch.Tensor, str]) -> dict[str, torch.Tensor]:
    """Return the optimizer's memory as `<parameter name>/<what>` → tensor, shapes as the parameters' or (); not copied."""
    return {
        f"{names[parameter]}/{what}": value
        for parameter, memory in optimizer.state.items()
        for what, value in memory.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer_tensors(optimizer: Optimizer, names: dict[torch.Tensor, str], tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` returned; tensors may have any shape that the memory has, on any device."""
    parameters = {name: parameter for parameter, name in names.items()}
    optimizer.state.clear()
    for key, value in tensors.items():
        name, what = key.rsplit("/", 1)
        parameter = parameters[name]
        # Step counters stay on the CPU, where the optimizer reads them; the rest lies as the parameter does.
        like = torch.empty_like(parameter, dtype=value.dtype) if value.shape == parameter.shape and value.dim() else torch.empty_like(value)
        optimizer.state[parameter][what] = like.copy_(value).detach()
