"""Whether a transfer paid: the interval against exact and simulated ones, what is compared with what, and what is said of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from app.schemas.models import TransferWorth
from models.verdict import (
    FROZEN,
    LEAST_GROUPS,
    LEAST_TEST_ITEMS,
    REPEAT,
    SCRATCH,
    Answers,
    Arm,
    Comparison,
    answers_of,
    first_reached,
    joined,
    judge,
    judged_splits,
    paired_gain,
    right_of,
    unmeasured,
)


def rights(wins: int, losses: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """One seed of both arms: `wins` items only ours has right, `losses` only theirs, half of the others right in both."""
    ours, theirs = np.zeros((1, n), bool), np.zeros((1, n), bool)
    ours[0, :wins] = True
    theirs[0, wins : wins + losses] = True
    rest = wins + losses + (n - wins - losses) // 2
    ours[0, wins + losses : rest] = theirs[0, wins + losses : rest] = True
    return ours, theirs


def answers(right: Sequence[bool] | np.ndarray, *, split: str = "test", groups: Sequence[int] | None = None) -> Answers:
    truth = [index % 5 for index in range(len(right))]
    predicted = [label if correct else label + 1 for label, correct in zip(truth, right, strict=True)]
    return {split: {"predicted": predicted, "truth": truth, "groups": list(groups) if groups is not None else [-1] * len(right)}}


def arm(name: str, right: Sequence[bool] | np.ndarray | None, *, seed: int = 0, status: str = "succeeded", **fields: Any) -> Arm:
    given = {"answers": None if right is None else answers(right), "metrics": {"training_seconds": 10.0, "steps": 100.0}, **fields}
    return Arm(name, seed, f"job_{name}{seed}", status, f"mdl_{name}{seed}", **given)


def share(right: int, n: int = 200) -> np.ndarray:
    return np.arange(n) < right


@pytest.mark.parametrize("n", [20, 60, 300])
@pytest.mark.parametrize(("wins", "losses"), [(4, 0), (5, 0), (6, 0), (10, 2), (12, 6), (14, 4), (3, 3), (0, 8)])
def test_the_verdict_agrees_with_the_exact_sign_test(wins: int, losses: int, n: int) -> None:
    gain = paired_gain(*rights(wins, losses, n))
    certain = binomtest(wins, wins + losses).pvalue <= 0.05
    assert gain.mean == pytest.approx((wins - losses) / n)
    assert gain.word == (("positive" if wins > losses else "negative") if certain else "neutral")
    assert gain.low <= gain.mean <= gain.high


def test_the_interval_is_that_of_a_mean_where_there_are_many_items() -> None:
    random = np.random.default_rng(5)
    ours, theirs = random.random((1, 2000)) < 0.8, random.random((1, 2000)) < 0.7
    gain = paired_gain(ours, theirs)
    difference = ours.astype(float) - theirs.astype(float)
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * difference.std() / np.sqrt(2000), rel=0.05)
    assert gain == paired_gain(ours, theirs), "the same every time"
    assert gain.resampled == "items"


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        draws = random.choice(3, (1, 80), p=[0.15, 0.05, 0.8])  # a true gain of ten points
        gain = paired_gain(draws == 0, draws == 1)
        inside += gain.low <= 0.1 <= gain.high
    assert 184 <= inside <= 200  # 95 % of 200 is 190, and its standard deviation 3


def test_items_of_one_speaker_are_drawn_together() -> None:
    groups = np.repeat(np.arange(10), 20)
    ours, theirs = np.zeros((1, 200), bool), np.zeros((1, 200), bool)
    ours[0, :20] = True  # one speaker in ten makes the whole gain
    by_group, by_item = paired_gain(ours, theirs, groups), paired_gain(ours, theirs)
    assert (by_group.mean, by_group.resampled, by_group.word) == (pytest.approx(0.1), "groups", "neutral")
    assert (by_item.resampled, by_item.word) == ("items", "positive"), "which takes twenty clips of one voice for twenty witnesses"


def test_a_few_speakers_can_not_be_resampled() -> None:
    ours, theirs = rights(30, 0, 60)
    few, enough = (np.arange(60) % count for count in (LEAST_GROUPS - 1, LEAST_GROUPS))
    assert (paired_gain(ours, theirs, few).resampled, paired_gain(ours, theirs, enough).resampled) == ("items", "groups")
    assert paired_gain(ours, theirs, np.full(60, -1)).resampled == "items"


def test_items_without_a_group_are_drawn_one_by_one() -> None:
    ours, theirs = rights(30, 0, 60)
    groups = np.where(np.arange(60) < LEAST_GROUPS, np.arange(60), -1)
    alone = paired_gain(ours, theirs, np.arange(60))
    assert paired_gain(ours, theirs, groups) == alone


def test_seeds_that_disagree_widen_the_interval() -> None:
    agreeing = paired_gain(*(np.repeat(side, 4, axis=0) for side in rights(20, 0, 100)))
    ours = np.concatenate([rights(wins, losses, 100)[0] for wins, losses in ((60, 0), (0, 20), (60, 0), (0, 20))])
    theirs = np.concatenate([rights(wins, losses, 100)[1] for wins, losses in ((60, 0), (0, 20), (60, 0), (0, 20))])
    split = paired_gain(ours, theirs)
    assert agreeing.mean == split.mean == pytest.approx(0.2)
    assert (agreeing.word, split.word) == ("positive", "neutral")
    assert split.high - split.low > 2 * (agreeing.high - agreeing.low)


def test_many_seeds_and_items_need_little_time_and_memory() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.random((10, 5000)) < 0.9, random.random((10, 5000)) < 0.88
    gain = paired_gain(ours, theirs)
    assert gain.low < 0.02 < gain.high


def test_test_items_judge_where_there_are_enough() -> None:
    few, many = answers(share(3, LEAST_TEST_ITEMS - 1)), answers(share(3, LEAST_TEST_ITEMS))
    validation = answers([True, False], split="validation")
    assert judged_splits({**validation, **many}) == ("test",)
    assert judged_splits({**validation, **few}) == ("validation", "test")
    assert judged_splits(few) == ("test",)
    assert judged_splits(validation) == ("validation",)
    assert judged_splits({}) == ()
    both = {**validation, **few}
    assert right_of(both, ("validation", "test")).tolist() == [True, False, *share(3, LEAST_TEST_ITEMS - 1)]
    assert joined(both, ("validation", "test"), "truth")[:3].tolist() == [0, 1, 0]


def test_answers_stand_beside_the_truth_of_their_items() -> None:
    items = {"train": np.array([0]), "validation": np.array([3, 1]), "test": np.array([2])}
    found = answers_of({"train": [9], "validation": [7, 8], "test": [5]}, items, np.array([0, 10, 20, 30]), np.array([0, -1, 2, 3]))
    assert found == {
        "validation": {"predicted": [7, 8], "truth": [30, 10], "groups": [3, -1]},
        "test": {"predicted": [5], "truth": [20], "groups": [2]},
    }
    assert answers_of({}, items, np.zeros(4), np.zeros(4)) == {}


def test_when_it_was_first_as_good() -> None:
    history = [
        {"step": 10.0, "validation_accuracy": 0.5},
        {"step": 20.0, "validation_accuracy": 0.9},
        {"step": 30.0, "validation_accuracy": 0.8},
        {"step": 40.0, "validation_accuracy": 0.95},
    ]
    assert (first_reached(history, 0.8), first_reached(history, 0.9), first_reached(history, 0.0)) == (20, 20, 10)
    assert first_reached(history, 0.99) is None
    assert first_reached(history, None) is None
    assert first_reached([{"step": 5.0}], 0.1) is None, "without validation items nothing is reached"


@pytest.mark.parametrize(
    ("ours", "theirs", "word", "said"),
    [
        (190, 150, "positive", "The layers from bundled helped: +20.0 points (+"),
        (150, 190, "negative", "Carrying layers over from bundled cost accuracy: -20.0 points (-"),
        (150, 150, "neutral", "neither helped nor hurt"),
    ],
)
def test_a_verdict_and_its_sentence(ours: int, theirs: int, word: str, said: str) -> None:
    history = [{"step": 20.0, "validation_accuracy": 0.7}, {"step": 40.0, "validation_accuracy": 0.9}]
    scratch = arm(SCRATCH, share(theirs), metrics={"training_seconds": 12.0, "steps": 120.0, "validation_accuracy": 0.8})
    frozen = arm(FROZEN, share(100))
    document = judge(Comparison("bundled", arm("", share(ours)), [scratch, frozen], history))
    assert (document["verdict"], document["split"], document["n"], document["seeds"]) == (word, "test", 200, [0])
    assert document["gain"] == pytest.approx((ours - theirs) / 200)
    assert said in document["sentence"]
    assert "on 200 test items" in document["sentence"]
    assert (document["steps_to_match"], document["seconds_to_match"]) == (40, 4.0)
    assert ("after 4.0 of 10.0 s" in document["sentence"]) == (word != "negative")
    assert [row["accuracy"] for row in document["controls"]] == [theirs / 200, 0.5]
    assert (document["controls"][0]["seconds"], document["controls"][0]["steps"]) == (12.0, 120)
    assert TransferWorth.model_validate(document).model_extra == {}


def test_seeds_are_compared_in_pairs_and_only_those_of_which_there_are_both() -> None:
    arms = [
        arm(REPEAT, share(180), seed=1), arm(SCRATCH, share(100), seed=0), arm(SCRATCH, share(120), seed=1),
        arm(SCRATCH, share(0), seed=2), arm(REPEAT, None, seed=2, status="failed"), arm(REPEAT, share(0), seed=3),
    ]  # fmt: skip
    document = judge(Comparison("mdl_1", arm("", share(160)), arms))
    assert document["seeds"] == [0, 1]
    assert document["gain"] == pytest.approx((160 + 180 - 100 - 120) / 400)
    assert document["accuracy"] == pytest.approx(0.85)
    assert "with 2 seeds each" in document["sentence"]


def test_a_smaller_budget_is_told() -> None:
    document = judge(Comparison("bundled", arm("", share(190)), [arm(SCRATCH, share(100), share=0.25)]))
    assert document["controls"][0]["share"] == 0.25
    assert "From scratch had 25% of the training time" in document["sentence"]


@pytest.mark.parametrize(
    ("judged", "controls", "reason"),
    [
        (arm("", share(9, 10)), [arm(SCRATCH, None, status="failed"), arm(FROZEN, share(1, 10))], "from scratch failed"),
        (arm("", share(9, 10)), [arm(SCRATCH, None, status="cancelled")], "from scratch was cancelled"),
        (arm("", share(9, 10)), [arm(SCRATCH, share(9, 11))], "the same items"),
        (arm("", None), [arm(SCRATCH, share(1, 10))], "no validation and test items"),
    ],
)
def test_what_can_not_be_measured_has_a_reason(judged: Arm, controls: list[Arm], reason: str) -> None:
    document = judge(Comparison("bundled", judged, controls))
    assert (document["verdict"], document["gain"], document["interval_95"]) == ("unmeasured", None, None)
    assert reason in document["reason"]
    assert reason in document["sentence"]
    assert len(document["controls"]) == len(controls)
    assert set(document) == set(unmeasured("x")) == set(judge(Comparison("b", arm("", share(3)), [arm(SCRATCH, share(4))])))
