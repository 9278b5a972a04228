"""The race: who wins, what chance can't decide, and that no arm is judged by what it was trained on."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from models.selection import LEAST_JUDGED, MOST_JUDGED, MOST_TRAINED, better_than_chance, race, split_for_race


def rights(*shares: float, n: int = 200) -> list[np.ndarray]:
    """Nested: who is right more often is right wherever the other is."""
    return [np.arange(n) < round(share * n) for share in shares]


def run_of(table: dict[str, np.ndarray], log: list[tuple[str, float]]) -> Callable[[str, float], np.ndarray]:
    def run(name: str, share: float) -> np.ndarray:
        log.append((name, share))
        return table[name]

    return run


def test_a_single_arm_wins_without_a_race() -> None:
    log: list[tuple[str, float]] = []
    assert race(["bundled"], run_of({}, log)).winner == "bundled"
    assert log == []


def test_a_clearly_better_arm_wins() -> None:
    first, last = rights(0.5, 0.7)
    assert race(["bundled", "scratch"], run_of({"bundled": first, "scratch": last}, [])).winner == "scratch"


def test_belief_decides_where_chance_could_have() -> None:
    first, last = rights(0.50, 0.51)
    assert race(["bundled", "scratch"], run_of({"bundled": first, "scratch": last}, [])).winner == "bundled"
    assert race(["scratch", "mine"], run_of({"scratch": first, "mine": last}, [])).winner == "scratch"


def test_two_arms_race_once_and_more_are_halved() -> None:
    log: list[tuple[str, float]] = []
    race(["a", "b"], run_of(dict(zip("ab", rights(0.5, 0.5), strict=True)), log))
    assert log == [("a", 0.25), ("b", 0.25)]
    log.clear()
    race(list("abcde"), run_of(dict(zip("abcde", rights(0.5, 0.2, 0.6, 0.3, 0.5), strict=True)), log))
    assert [name for name, share in log if share == 0.125] == list("abcde")
    assert [name for name, share in log if share == 0.25] == ["a", "c", "e"]


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (4, 0), (12, 5), (9, 3), (40, 25), (3, 3), (1, 9)])
def test_better_than_chance_is_the_exact_sign_test(wins: int, losses: int) -> None:
    right = np.r_[np.ones(wins), np.zeros(losses), np.ones(7)].astype(bool)
    other = np.r_[np.zeros(wins), np.ones(losses), np.ones(7)].astype(bool)
    expected = binomtest(wins, wins + losses, alternative="greater").pvalue <= 0.05
    assert better_than_chance(right, other) == expected


def test_enough_validation_items_judge_alone() -> None:
    train, validation = np.arange(400), np.arange(400, 400 + LEAST_JUDGED)
    truth = np.arange(600) % 10
    trained, judged = split_for_race(train, validation, truth, np.full(600, -1), seed=0)
    assert np.array_equal(trained, train)
    assert np.array_equal(judged, validation)


def test_few_validation_items_are_joined_by_a_third_of_each_label() -> None:
    train, truth = np.arange(90), np.arange(100) % 10
    trained, judged = split_for_race(train, np.arange(90, 100), truth, np.full(100, -1), seed=0)
    assert not set(trained) & set(judged)
    assert set(trained) | set(judged) == set(range(100))
    assert np.bincount(truth[trained]).tolist() == [6] * 10


def test_voices_are_kept_on_one_side() -> None:
    truth, groups = np.arange(120) % 4, np.repeat(np.arange(6), 20)
    trained, judged = split_for_race(np.arange(120), np.empty(0, np.int64), truth, groups, seed=1)
    assert not set(groups[trained]) & set(groups[judged])
    assert len(set(groups[judged])) == 2


def test_a_label_of_one_voice_alone_stays_in_training() -> None:
    groups = np.repeat(np.arange(3), 10)
    truth = groups.copy()
    trained, _ = split_for_race(np.arange(30), np.empty(0, np.int64), truth, groups, seed=0)
    assert set(truth[trained]) == {0, 1, 2}


def test_large_sets_are_thinned_label_by_label() -> None:
    truth = np.arange(20_000) % 20
    trained, judged = split_for_race(np.arange(15_000), np.arange(15_000, 20_000), truth, np.full(20_000, -1), seed=0)
    assert (len(trained), len(judged)) == (MOST_TRAINED, MOST_JUDGED)
    assert np.bincount(truth[trained]).tolist() == [MOST_TRAINED // 20] * 20
