"""Strategies as pure functions: when a layer thaws, where the schedule stands, what pulls back, and how fast each layer learns."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.config import FeatureConfig, NetworkConfig, Normalization, TransferConfig
from models.network import CLASSIFIER, Network, build_network
from models.optimizers import Treatment
from models.strategies import (
    HOLDS,
    NEVER,
    PENALTIES,
    PROBE_SHARE,
    THAWED_BY,
    held_layers,
    patient_from,
    pull_to_source,
    schedule_place,
    thaw_points,
    treatments,
)

LAYERS = ("stem", "layer1", "layer2", "layer3")
GRADUAL = TransferConfig(freeze="gradual")


@pytest.mark.parametrize(
    ("transfer", "points"),
    [
        (TransferConfig(), {}),
        (TransferConfig(freeze="shared"), dict.fromkeys(LAYERS, NEVER)),
        (GRADUAL, {"stem": 0.5, "layer1": 0.375, "layer2": 0.25, "layer3": 0.125}),
        (TransferConfig(freeze="gradual", thaw_from="input"), {"stem": 0.125, "layer1": 0.25, "layer2": 0.375, "layer3": 0.5}),
        (TransferConfig(probe_first=True), dict.fromkeys(LAYERS, PROBE_SHARE)),
        (TransferConfig(freeze="gradual", probe_first=True), {"stem": 0.5, "layer1": 0.375, "layer2": 0.25, "layer3": PROBE_SHARE}),
    ],
)
def test_thaw_points(transfer: TransferConfig, points: dict[str, float]) -> None:
    found = thaw_points(LAYERS, transfer)
    assert found == pytest.approx(points)
    assert list(found) == [name for name in LAYERS if name in points]


def test_every_hold_is_asked_for_by_some_job_and_by_no_default() -> None:
    jobs = [TransferConfig(freeze="shared"), GRADUAL, TransferConfig(probe_first=True)]
    for name, hold in HOLDS.items():
        assert not hold.wanted(TransferConfig()), name
        assert any(hold.wanted(job) for job in jobs), name
    assert thaw_points((), GRADUAL) == {}


@given(total=st.integers(1, 3000), source_first=st.booleans())
def test_layers_thaw_one_way_in_order_and_all_by_half(total: int, source_first: bool) -> None:
    points = thaw_points(LAYERS, TransferConfig(freeze="gradual", thaw_from="input" if source_first else "head"))
    held = [held_layers(points, update, total) for update in range(total)]
    assert held[0] == LAYERS
    assert all(set(later) <= set(earlier) for earlier, later in itertools.pairwise(held))
    assert all(not names for update, names in enumerate(held) if update >= THAWED_BY * total)
    for names in held:  # what still stands is always the end that thaws last
        assert names == (LAYERS[len(LAYERS) - len(names) :] if source_first else LAYERS[: len(names)])


def test_frozen_for_good_is_held_to_the_end() -> None:
    assert held_layers({"stem": NEVER, "layer1": 0.5}, 9, 10) == ("stem",)


@given(total=st.integers(2, 3000))
def test_probing_runs_the_schedule_twice(total: int) -> None:
    places = [schedule_place(TransferConfig(probe_first=True), update, total) for update in range(total)]
    probed = math.ceil(PROBE_SHARE * total)
    assert places == [(update, probed) for update in range(probed)] + [(update, total - probed) for update in range(total - probed)]
    held = [bool(held_layers({"stem": PROBE_SHARE}, update, total)) for update in range(total)]
    assert held == [update < probed for update in range(total)], "the schedule begins anew exactly where the layers do"
    assert schedule_place(TransferConfig(), 1, total) == (1, total)


def test_patience_waits_for_every_layer() -> None:
    assert patient_from(TransferConfig(), {}, 0.6) == 0.6
    assert patient_from(TransferConfig(freeze="shared"), {"stem": NEVER}, 0.0) == 0.0
    assert patient_from(GRADUAL, thaw_points(LAYERS, GRADUAL), 0.0) == THAWED_BY
    assert patient_from(TransferConfig(probe_first=True), {"stem": PROBE_SHARE}, 0.5) == pytest.approx(0.6)


def test_the_pull_is_the_gradient_of_half_the_squared_distance() -> None:
    torch.manual_seed(0)
    parameters = {"a": nn.Parameter(torch.randn(3, 4)), "b": nn.Parameter(torch.randn(5)), "head": nn.Parameter(torch.randn(2))}
    source = {"a": torch.randn(3, 4), "b": torch.randn(5)}
    inputs = {name: torch.randn_like(parameter) for name, parameter in parameters.items()}

    def loss() -> torch.Tensor:
        return sum(((inputs[name] * parameter) ** 2).sum() for name, parameter in parameters.items())

    penalty = sum(0.3 / 2 * (parameters[name] - origin).pow(2).sum() for name, origin in source.items())
    expected = dict(zip(parameters, torch.autograd.grad(loss() + penalty, list(parameters.values())), strict=True))
    loss().backward()
    pull_to_source(parameters, source, 0.3)
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_what_stands_still_is_not_pulled() -> None:
    parameter = nn.Parameter(torch.ones(2))
    pull_to_source({"a": parameter}, {"a": torch.zeros(2)}, 1.0)
    assert parameter.grad is None
    assert PENALTIES["none"] is None


def network_of(architecture: str = "resnet_tiny", source_classes: int | None = None) -> Network:
    return build_network(
        NetworkConfig(
            modality="audio",
            architecture=architecture,
            labels=("a", "b"),
            features=FeatureConfig(n_mels=32, clip_seconds=0.5, image_size=32),
            normalization=Normalization(mean=(0.0,) * 32, std=(1.0,) * 32),
            source_classes=source_classes,
        )
    )


def test_each_layer_learns_at_a_share_of_the_next_ones_rate() -> None:
    network = network_of()
    found = treatments(network, 0.5, undecayed=("stem",))
    rates = {name: {found[p].rate for p in network.layer(name).parameters()} for name in network.layer_names()}
    assert rates == {"stem": {0.5**5}, "layer1": {0.5**4}, "layer2": {0.5**3}, "layer3": {0.5**2}, "layer4": {0.5}}
    assert {found[p] for p in network.head.parameters()} == {Treatment(1.0, decays=True)}
    assert {name for name in network.layer_names() for p in network.layer(name).parameters() if not found[p].decays} == {"stem"}
    assert set(found) == set(network.parameters())


def test_a_carried_classifier_is_the_first_layer_below_the_head() -> None:
    network = network_of("seed_cnn", source_classes=7)
    found = treatments(network, 0.5, undecayed=())
    assert {found[p].rate for p in network.layer(CLASSIFIER).parameters()} == {0.5}
    assert {found[p].rate for p in network.layer("conv1").parameters()} == {0.5**4}
    assert {found[p].rate for p in network.head.get_submodule("1").parameters()} == {1.0}


def test_without_decay_nothing_is_treated_differently() -> None:
    assert set(treatments(network_of(), 1.0, undecayed=()).values()) == {Treatment()}
