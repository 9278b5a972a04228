"""The order of sources, what each is held against, and where to cut."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from models.transferability import Kind, TransferabilitySpec, Trial, Verdict, mean_trial, ranked, where_to_cut


def trial(knn: float, logme: float = 0.0, layers: Mapping[str, float] | None = None) -> Trial:
    return Trial("source", knn, 0.5, logme, 1.0, layers or {"stem": 0.3, "last": knn})


def verdict(name: str, found: Trial, kind: Kind = "model", architecture: str = "resnet_tiny") -> Verdict:
    return Verdict(name, kind, architecture, found)


RANDOM = verdict("resnet_tiny", trial(0.5), "random")


def test_neighbors_decide_and_log_me_breaks_ties() -> None:
    verdicts = [RANDOM, verdict("c", trial(0.8, 0.1)), verdict("b", trial(0.8, 0.2)), verdict("a", trial(0.9, -1.0))]
    found = ranked(verdicts, 1000)
    assert [(row["rank"], row["candidate"]) for row in found] == [(1, "a"), (2, "b"), (3, "c"), (4, "resnet_tiny")]


@pytest.mark.parametrize(("knn", "better"), [(0.6, True), (0.4, False), (0.51, None)])
def test_a_source_is_held_against_random_weights(knn: float, better: bool | None) -> None:
    rows = {row["candidate"]: row for row in ranked([RANDOM, verdict("a", trial(knn))], 1000)}
    assert rows["a"]["better_than_random"] is better
    assert rows["a"]["gain"] == pytest.approx(knn - 0.5)
    assert (rows["resnet_tiny"]["gain"], rows["resnet_tiny"]["better_than_random"]) == (None, None)


def test_each_against_those_of_its_own_architecture() -> None:
    other = verdict("seed_cnn", trial(0.9), "random", "seed_cnn")
    [row] = [row for row in ranked([RANDOM, other, verdict("a", trial(0.7), architecture="seed_cnn")], 1000) if row["candidate"] == "a"]
    assert (row["random_knn"], row["better_than_random"]) == (0.9, False)
    assert row["layers"] == [{"name": "stem", "knn": 0.3, "random_knn": 0.3}, {"name": "last", "knn": 0.7, "random_knn": 0.9}]


def test_the_cut_is_as_deep_as_the_best_layer_allows() -> None:
    layers = {"stem": 0.5, "middle": 0.8, "last": 0.79}
    assert where_to_cut(layers, 100) == "last"  # within a standard error, four percent
    assert where_to_cut(layers, 10_000) == "middle"
    assert where_to_cut({}, 100) is None


def test_the_mean_of_draws() -> None:
    found = mean_trial([trial(0.4, 1.0), trial(0.6, 2.0)])
    assert (found.knn, found.logme, found.layers["last"]) == (0.5, 1.5, 0.5)


@pytest.mark.parametrize("fields", [{"dataset": "nothing"}, {"candidates": []}, {"candidates": ["a"] * 51}, {"epochs": 3}, {"seed": -1}])
def test_what_can_not_be_asked(fields: dict[str, Any]) -> None:
    assert TransferabilitySpec.model_validate({"dataset": "ds_1"}).candidates is None
    with pytest.raises(ValidationError):
        TransferabilitySpec.model_validate({"dataset": "ds_1", **fields}, strict=False)
