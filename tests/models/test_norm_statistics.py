"""Batch-norm statistics measured anew: by reference, of the layers that were meant, and nothing else."""

import numpy as np
import pytest
import torch

from models.config import FeatureConfig, NetworkConfig, Normalization
from models.network import Network, build_network
from models.norm_statistics import norms_of, re_estimate


def network_of(architecture: str = "resnet_tiny") -> Network:
    return build_network(
        NetworkConfig(
            modality="audio",
            architecture=architecture,
            labels=("a", "b"),
            features=FeatureConfig(n_mels=16, clip_seconds=0.5, image_size=16),
            normalization=Normalization(mean=(0.0,) * 16, std=(1.0,) * 16),
        )
    )


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 + 2 * torch.randn(8, 16, 20, generator=generator) for _ in range(3)]


def test_the_first_norm_gets_mean_and_variance_of_what_it_sees() -> None:
    network = network_of()
    seen: list[torch.Tensor] = []
    norm = norms_of(network)[0]
    handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    re_estimate(network, batches())
    handle.remove()
    maps = [values.transpose(0, 1).flatten(1) for values in seen]
    torch.testing.assert_close(norm.running_mean, torch.stack([values.mean(dim=1) for values in maps]).mean(dim=0))
    torch.testing.assert_close(norm.running_var, torch.stack([values.var(dim=1) for values in maps]).mean(dim=0))


def test_weights_modes_and_momenta_stay() -> None:
    network = network_of()
    network.train()
    network.layer("layer1").eval()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    modes, momenta = [m.training for m in network.modules()], [norm.momentum for norm in norms_of(network)]
    re_estimate(network, batches())
    assert all(torch.equal(before[name], parameter) for name, parameter in network.named_parameters())
    assert [module.training for module in network.modules()] == modes
    assert [norm.momentum for norm in norms_of(network)] == momenta


def test_only_the_named_layers_change() -> None:
    network = network_of()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    re_estimate(network, batches(), layers=("stem", "layer2"))
    changed = {name.split(".")[1] for name, buffer in network.named_buffers() if not torch.equal(before[name], buffer)}
    assert changed == {"stem", "layer2"}


def test_measuring_twice_measures_the_same() -> None:
    network = network_of()
    re_estimate(network, batches(), layers=("stem",))
    once = norms_of(network)[0].running_mean.clone()
    re_estimate(network, batches(), layers=("stem",))
    assert torch.equal(once, norms_of(network)[0].running_mean)


@pytest.mark.parametrize("architecture", ["seed_cnn"])
def test_networks_without_batch_norm_are_left_alone(architecture: str) -> None:
    network = network_of(architecture)

    def never() -> object:
        raise AssertionError
        yield np.zeros(0)

    assert norms_of(network) == []
    re_estimate(network, never())
