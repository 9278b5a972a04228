"""What a search may try, what it proposes next, and what it takes for the best."""

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from models.config import JobSpec
from models.errors import ConfigError
from models.search import (
    SPACE,
    Choice,
    Range,
    Situation,
    Trial,
    best_of,
    open_space,
    propose,
    require_optuna,
    score_of,
    with_values,
    without_values,
)

SETTLED = {"epochs": 10, "batch_size": 16, "learning_rate": 0.003, "weight_decay": 0.05, "precision": "fp32"}


def spec(**fields: Any) -> JobSpec:
    return JobSpec.model_validate({"dataset": "ds_1", "search": {"trials": 10}, **fields}, strict=False)


def settled(**fields: Any) -> JobSpec:
    return spec(**fields | {"hyperparameters": SETTLED | fields.get("hyperparameters", {})})


def space_of(*, carries: bool = False, full_batch: bool = False, items: int = 100, **fields: Any) -> dict[str, Range | Choice]:
    return open_space(Situation(spec(**fields), settled(**fields), carries=carries, full_batch=full_batch, items=items))


def trial(number: int, score: float | None = None, state: Any = "complete", **parameters: Any) -> Trial:
    chosen = {"hyperparameters.label_smoothing": 0.01 * number} | parameters
    return Trial(trial=number, parameters=chosen, state=state, accuracy=score, score=score, seconds=1.0, rungs={})


def test_what_is_left_open_is_searched_around_what_auto_means() -> None:
    space = space_of()
    assert space["hyperparameters.learning_rate"] == Range(pytest.approx(0.0003), pytest.approx(0.03), log=True)
    assert space["hyperparameters.weight_decay"] == Range(pytest.approx(0.005), pytest.approx(0.5), log=True)
    assert space["hyperparameters.batch_size"] == Choice((8, 16, 32))
    assert not any(path.startswith("transfer.") or path.endswith("layer_decay") for path in space), "nothing is carried over"


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0.01), ("weight_decay", 0.1), ("batch_size", 8), ("label_smoothing", 0.0)],
)
def test_what_was_asked_for_is_not_searched(field: str, value: float) -> None:
    assert f"hyperparameters.{field}" in space_of()
    assert f"hyperparameters.{field}" not in space_of(hyperparameters={field: value})


def test_carried_layers_open_how_they_move() -> None:
    space = space_of(carries=True)
    assert set(space) == set(SPACE)
    assert space["transfer.freeze"] == Choice(("none", "gradual", "shared"))
    pulled = space_of(carries=True, transfer={"regularize": "l2_sp"})
    assert pulled["transfer.freeze"] == Choice(("none", "gradual")), "what is pulled has to move"
    assert "transfer.freeze" not in space_of(carries=True, transfer={"freeze": "gradual"})


def test_batches_fit_the_items() -> None:
    assert space_of(items=20).get("hyperparameters.batch_size") == Choice((8, 16))
    assert "hyperparameters.batch_size" not in space_of(full_batch=True)


def test_auto_of_zero_has_nothing_around_it() -> None:
    fields = {"hyperparameters": {"optimizer": "adam"}}
    situation = Situation(
        spec(**fields), settled(hyperparameters={"optimizer": "adam", "weight_decay": 0.0}), carries=False, full_batch=False, items=100
    )
    assert "hyperparameters.weight_decay" not in open_space(situation)


def test_the_first_trial_has_the_values_of_a_job_without_a_search() -> None:
    proposal = propose(space_of(carries=True), settled(), [], seed=1, trials=10)
    assert proposal.parameters == {
        "hyperparameters.learning_rate": 0.003,
        "hyperparameters.weight_decay": 0.05,
        "hyperparameters.batch_size": 16,
        "hyperparameters.label_smoothing": 0.05,
        "augmentation.mixup": 0.0,
        "transfer.freeze": "none",
        "transfer.probe_first": False,
        "hyperparameters.layer_decay": 1.0,
    }


def test_proposals_follow_from_seed_and_past_alone() -> None:
    space, past = {"hyperparameters.label_smoothing": Range(0.0, 0.2)}, [trial(0, 0.5), trial(1, 0.7)]
    first = propose(space, settled(), past, seed=3, trials=10)
    assert propose(space, settled(), past, seed=3, trials=10).parameters == first.parameters
    assert propose(space, settled(), past, seed=4, trials=10).parameters != first.parameters
    assert propose(space, settled(), [*past, trial(2, 0.6)], seed=3, trials=10).parameters != first.parameters


def test_the_estimator_learns_where_it_is_good() -> None:
    """Scores rise towards a smoothing of 0.05: later proposals lie nearer to it than random ones do."""
    space = {"hyperparameters.label_smoothing": Range(0.0, 0.2)}
    past: list[Trial] = []
    for number in range(30):
        value = float(propose(space, settled(), past, seed=0, trials=30).parameters["hyperparameters.label_smoothing"])
        past.append(trial(number, 1 - abs(value - 0.05), **{"hyperparameters.label_smoothing": value}))
    late = [abs(float(found.parameters["hyperparameters.label_smoothing"]) - 0.05) for found in past[15:]]
    assert sum(late) / len(late) < 0.03, "at random it would be 0.055"


def test_values_that_contradict_one_another_are_not_proposed_together() -> None:
    space, past = space_of(carries=True), []
    seen = set()
    for number in range(25):
        parameters = propose(space, settled(), past, seed=0, trials=100).parameters
        seen.add(parameters["transfer.freeze"])
        assert ("transfer.probe_first" in parameters) == (parameters["transfer.freeze"] == "none")
        assert ("hyperparameters.layer_decay" in parameters) == (parameters["transfer.freeze"] != "shared")
        past.append(Trial(trial=number, parameters=dict(parameters), state="complete", accuracy=0.5, score=0.5, seconds=1.0, rungs={}))
    assert seen == {"none", "gradual", "shared"}


def test_a_hopeless_trial_is_given_up_once_there_is_something_to_compare_with() -> None:
    space = {"hyperparameters.label_smoothing": Range(0.0, 0.2)}
    past = [trial(number, 0.9).model_copy(update={"rungs": {5: 0.8}}) for number in range(5)]
    assert propose(space, settled(), past, seed=0, trials=10).gives_up(5, 0.1)
    assert not propose(space, settled(), past, seed=0, trials=10).gives_up(5, 0.9)
    assert not propose(space, settled(), past, seed=0, trials=10).gives_up(1, 0.1), "it has only begun"
    assert not propose(space, settled(), past[:2], seed=0, trials=10).gives_up(5, 0.1), "two are no measure"


def test_failed_and_pruned_trials_are_part_of_the_past() -> None:
    space = {"hyperparameters.label_smoothing": Range(0.0, 0.2)}
    past = [trial(0, 0.5), trial(1, state="failed"), trial(2, state="pruned")]
    assert 0 <= float(propose(space, settled(), past, seed=0, trials=10).parameters["hyperparameters.label_smoothing"]) <= 0.2


def test_the_best_is_the_earliest_of_the_highest_that_came_to_its_end() -> None:
    assert best_of([trial(0, 0.5), trial(1, 0.7), trial(2, 0.7), trial(3, 0.9, state="pruned")]) == trial(1, 0.7)
    assert best_of([trial(0, state="failed")]) is None


def test_a_clip_counts_for_more_than_any_loss() -> None:
    assert score_of(0.9, 0.1) > score_of(0.9, 0.2)
    assert score_of(0.902, 1e9) > score_of(0.9, 0.0)


def test_values_are_put_in_and_taken_back() -> None:
    asked, found = spec(), settled(transfer={"mode": "full"})
    chosen = with_values(found, {"transfer.freeze": "gradual", "hyperparameters.batch_size": 8, "augmentation.mixup": 0.3})
    assert (chosen.transfer.freeze, chosen.hyperparameters.batch_size, chosen.augmentation.mixup) == ("gradual", 8, 0.3)
    back = without_values(chosen, asked)
    assert back.hyperparameters == asked.hyperparameters
    assert (back.transfer.freeze, back.transfer.mode, back.augmentation.mixup) == ("none", "full", 0.0)


def test_without_the_library_a_search_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_optuna()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="optuna") as raised:
        require_optuna()
    assert (raised.value.code, raised.value.param) == ("search_unavailable", "search")
    assert "search" in str(raised.value.hint)


def test_the_module_loads_neither_torch_nor_optuna() -> None:
    code = "import models.search, sys; sys.exit(any(name in sys.modules for name in ('torch', 'optuna')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
