"""Optimizers: each agrees with its formula step by step, goes downhill, and remembers where it was."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import nn

from models.config import OptimizerName
from models.optimizers import (
    OPTIMIZERS,
    Treatment,
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_learning_rate,
)

NAMES = list(OPTIMIZERS)
Memory = dict[str, torch.Tensor]
Step = Callable[[torch.Tensor, torch.Tensor, Memory, int], torch.Tensor]
RATE, DECAY, MOMENTUM = 0.05, 0.1, 0.8


def test_every_name_of_the_contract_is_there() -> None:
    assert set(NAMES) == set(get_args(OptimizerName))
    assert [name for name in NAMES if OPTIMIZERS[name].full_batch] == ["gd"]


def gd(weight: torch.Tensor, gradient: torch.Tensor, _: Memory, __: int) -> torch.Tensor:
    return weight - RATE * (gradient + DECAY * weight)


def sgd(weight: torch.Tensor, gradient: torch.Tensor, memory: Memory, _: int) -> torch.Tensor:
    memory["velocity"] = MOMENTUM * memory.get("velocity", torch.zeros_like(weight)) + gradient + DECAY * weight
    return weight - RATE * memory["velocity"]


def adagrad(weight: torch.Tensor, gradient: torch.Tensor, memory: Memory, _: int) -> torch.Tensor:
    gradient = gradient + DECAY * weight
    memory["squares"] = memory.get("squares", torch.zeros_like(weight)) + gradient**2
    return weight - RATE * gradient / (memory["squares"].sqrt() + 1e-10)


def rmsprop(weight: torch.Tensor, gradient: torch.Tensor, memory: Memory, _: int) -> torch.Tensor:
    gradient = gradient + DECAY * weight
    memory["squares"] = 0.99 * memory.get("squares", torch.zeros_like(weight)) + 0.01 * gradient**2
    memory["velocity"] = MOMENTUM * memory.get("velocity", torch.zeros_like(weight)) + gradient / (memory["squares"].sqrt() + 1e-8)
    return weight - RATE * memory["velocity"]


def adam_update(gradient: torch.Tensor, memory: Memory, step: int) -> torch.Tensor:
    memory["mean"] = 0.9 * memory.get("mean", torch.zeros_like(gradient)) + 0.1 * gradient
    memory["squares"] = 0.999 * memory.get("squares", torch.zeros_like(gradient)) + 0.001 * gradient**2
    return RATE * (memory["mean"] / (1 - 0.9**step)) / ((memory["squares"] / (1 - 0.999**step)).sqrt() + 1e-8)


def adam(weight: torch.Tensor, gradient: torch.Tensor, memory: Memory, step: int) -> torch.Tensor:
    return weight - adam_update(gradient + DECAY * weight, memory, step)


def adamw(weight: torch.Tensor, gradient: torch.Tensor, memory: Memory, step: int) -> torch.Tensor:
    return weight * (1 - RATE * DECAY) - adam_update(gradient, memory, step)


@pytest.mark.parametrize("formula", [gd, sgd, adagrad, rmsprop, adam, adamw])
def test_agrees_with_its_formula_over_ten_steps(formula: Step) -> None:
    torch.manual_seed(0)
    target = torch.randn(3, 4, dtype=torch.float64)
    weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
    expected, memory = weight.detach().clone(), {}
    name: OptimizerName = formula.__name__
    optimizer = build_optimizer(name, [weight], learning_rate=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    for step in range(1, 11):
        optimizer.zero_grad()
        (weight - target).pow(4).sum().backward()
        optimizer.step()
        expected = formula(expected, 4 * (expected - target) ** 3, memory, step)
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("formula", [gd, sgd, adagrad, rmsprop, adam, adamw])
def test_a_share_of_the_rate_acts_as_that_rate_and_decay_can_be_left_to_others(formula: Step) -> None:
    torch.manual_seed(1)
    target = torch.randn(3, 4, dtype=torch.float64)
    slow, alike, spared = (nn.Parameter(torch.ones(3, 4, dtype=torch.float64)) for _ in range(3))
    name: OptimizerName = formula.__name__
    treatments = {slow: Treatment(rate=0.25), spared: Treatment(decays=False)}
    optimizer = build_optimizer(
        name, [slow, alike, spared], learning_rate=4 * RATE, momentum=MOMENTUM, weight_decay=DECAY, treatments=treatments
    )
    expected, memory = slow.detach().clone(), {}
    for step in range(1, 6):
        optimizer.zero_grad()
        sum((weight - target).pow(4).sum() for weight in (slow, alike, spared)).backward()
        set_learning_rate(optimizer, 4 * RATE)
        optimizer.step()
        expected = formula(expected, 4 * (expected - target) ** 3, memory, step)
        torch.testing.assert_close(slow.detach(), expected, rtol=1e-9, atol=1e-9)
    assert not torch.equal(slow, alike)
    assert not torch.equal(alike, spared)
    shares = {group["rate_share"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups if group["weight_decay"]}
    assert shares == {1.0: (4 * RATE, DECAY), 0.25: (RATE, DECAY)}


def descend(optimizer: torch.optim.Optimizer, layer: nn.Linear, steps: int) -> float:
    inputs = torch.linspace(-1, 1, 40).view(10, 4)
    loss = torch.zeros(())
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (layer(inputs) - inputs.sum(dim=1, keepdim=True)).pow(2).mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def layer_of(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(4, 1)


@pytest.mark.parametrize("name", NAMES)
def test_goes_downhill_at_its_own_rate(name: OptimizerName) -> None:
    layer = layer_of()
    optimizer = build_optimizer(name, layer.parameters(), learning_rate=OPTIMIZERS[name].learning_rate)
    first = descend(optimizer, layer, 1)
    assert descend(optimizer, layer, 400) < first / 2


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_from_its_tensors_bit_for_bit(name: OptimizerName) -> None:
    def build(layer: nn.Linear) -> torch.optim.Optimizer:
        return build_optimizer(name, layer.parameters(), learning_rate=0.01, weight_decay=0.01)

    whole = layer_of()
    descend(build(whole), whole, 7)
    first = layer_of()
    optimizer = build(first)
    descend(optimizer, first, 3)
    tensors = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizer, names_of(first)).items()}
    second = layer_of(seed=9)
    second.load_state_dict(first.state_dict())
    resumed = build(second)
    load_optimizer_tensors(resumed, names_of(second), tensors)
    descend(resumed, second, 4)
    assert torch.equal(whole.weight, second.weight)
    assert torch.equal(whole.bias, second.bias)


def names_of(layer: nn.Module) -> dict[torch.Tensor, str]:
    return {parameter: name for name, parameter in layer.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_decay_spares_biases_and_norms(name: OptimizerName) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    optimizer = build_optimizer(name, network.parameters(), learning_rate=0.1, weight_decay=0.3)
    decays = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {key: decays[id(parameter)] for key, parameter in network.named_parameters()} == {
        "0.weight": 0.3,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.3,
        "2.bias": 0.0,
    }


def test_what_needs_no_gradient_is_left_out() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(layer.parameters(), 0.1)] == [1]


def test_the_rate_can_be_moved() -> None:
    layer = nn.Linear(2, 2)
    optimizer = build_optimizer("sgd", layer.parameters(), learning_rate=0.1)
    set_learning_rate(optimizer, 0.025)
    assert {group["lr"] for group in optimizer.param_groups} == {0.025}
