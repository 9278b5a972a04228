"""Averages of weights: by reference, and what they leave untouched."""

import pytest
import torch
from torch import nn

from models.averaging import EMA_DECAY, INTERPOLATION_GRID, Ema, applied, ema_decay, interpolated


def network_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def move(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor.add_(1)


def test_moving_average_by_reference() -> None:
    network = network_of(0)
    average = Ema(network)
    expected = {name: tensor.double() for name, tensor in network.state_dict().items()}
    for update in range(6):
        move(network, update)
        average.follow(network, update)
        decay = min(EMA_DECAY, (1 + update) / (10 + update))
        expected = {name: decay * tensor + (1 - decay) * network.state_dict()[name].double() for name, tensor in expected.items()}
    for name, tensor in average.tensors.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-6, atol=1e-6)
    assert average.tensors["1.num_batches_tracked"] == 6


def test_what_stands_still_stands_still_in_the_average_too() -> None:
    network = network_of(1)
    average = Ema(network)
    for update in range(30):
        average.follow(network, update)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in average.tensors.items())


@pytest.mark.parametrize(("update", "decay"), [(0, 0.1), (8, 0.5), (10**6, EMA_DECAY)])
def test_decay_is_warmed_up(update: int, decay: float) -> None:
    assert ema_decay(update) == pytest.approx(decay)


def test_restart_forgets_in_place() -> None:
    network = network_of(2)
    average = Ema(network)
    kept = average.tensors
    move(network, 3)
    average.restart(network)
    assert average.tensors is kept
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in kept.items())


def test_the_network_has_its_own_weights_again_even_after_an_error() -> None:
    network = network_of(4)
    average = Ema(network)
    move(network, 5)
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with applied(network, average):
        assert torch.equal(network[0].weight, average.tensors["0.weight"])
    assert torch.equal(network[0].weight, own["0.weight"])
    with pytest.raises(RuntimeError), applied(network, average):
        network(torch.zeros(2, 99))
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())
    with applied(network, None):
        assert torch.equal(network[0].weight, own["0.weight"])


def test_mixtures_of_source_and_tuned() -> None:
    source = {"a": torch.tensor([1.0, 2.0])}
    tuned = {"a": torch.tensor([3.0, -2.0]), "head": torch.tensor([9.0])}
    mixed = interpolated(source, tuned, 0.25)
    torch.testing.assert_close(mixed["a"], torch.tensor([1.5, 1.0]))
    assert mixed["head"] is tuned["head"]
    assert torch.equal(interpolated(source, tuned, 1.0)["a"], tuned["a"])
    assert torch.equal(interpolated(source, tuned, 0.0)["a"], source["a"])
    assert INTERPOLATION_GRID[0] == 1.0
