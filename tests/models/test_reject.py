"""The reject option: the asked shares are kept on what thresholds were fitted on, and what it does is counted right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.reject import WORDS_FACTOR, answered_share, fit_thresholds, measure_reject, rejected


def unknowns(count: int, seed: int, sharpness: float = 1.0, classes: int = 4) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(0, sharpness, (count, classes))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@given(seed=st.integers(0, 1000), rate=st.sampled_from([0.001, 0.01, 0.1, 0.5]), sharpness=st.sampled_from([0.5, 4.0, 40.0]))
def test_the_asked_shares_are_kept(seed: int, rate: float, sharpness: float) -> None:
    noise, words = unknowns(400, seed, sharpness / 2), unknowns(600, seed + 1, sharpness)
    thresholds = fit_thresholds(noise, words, rate)
    assert thresholds.shape == (4,)
    assert ((thresholds > 0) & (thresholds <= 1)).all()
    if thresholds.max() < 1 - 1e-6:  # nearer to certainty float32 has no numbers left
        assert 1 - rejected(noise, thresholds).mean() <= rate
        assert 1 - rejected(words, thresholds).mean() <= min(0.5, WORDS_FACTOR * rate)


def test_no_more_is_rejected_than_was_asked_for() -> None:
    noise, words = unknowns(1000, 0), unknowns(1000, 1)
    thresholds = fit_thresholds(noise, words, 0.1)
    shares = 1 - rejected(noise, thresholds).mean(), (1 - rejected(words, thresholds).mean()) / WORDS_FACTOR
    assert max(shares) == pytest.approx(0.1, abs=0.01), "the harder of the two sets the level"


def test_a_label_that_attracts_noise_is_held_to_more() -> None:
    noise = unknowns(1000, 0)
    logits = np.random.default_rng(1).normal(0, 1, (1000, 4)) + np.array([3.0, 0, 0, 0])
    weights = np.exp(logits)
    words = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    thresholds = fit_thresholds(noise, words, 0.01)
    assert thresholds[0] > thresholds[1:].max()


def test_what_it_does_is_counted_by_hand() -> None:
    thresholds = np.array([0.8, 0.5], np.float32)
    known = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.75, 0.25]], np.float32)  # believed, not, believed, not
    truth = np.array([0, 0, 1, 1])
    noise = np.array([[0.5, 0.5], [0.85, 0.15]], np.float32)
    words = np.array([[0.2, 0.8], [0.1, 0.9], [0.79, 0.21], [0.7, 0.3]], np.float32)
    found = measure_reject(known, truth, noise, words, thresholds)
    assert found == {
        "accepted_noise": 0.5, "accepted_words": 0.5, "known_lost_points": 25.0, "known_mended_points": 25.0,
        "n": {"noise": 2, "words": 4, "known": 4},
    }  # fmt: skip


def test_without_thresholds_nothing_is_rejected() -> None:
    assert not rejected(unknowns(50, 0), np.zeros(4, np.float32)).any()


def test_the_share_that_is_answered_is_counted_by_hand() -> None:
    known = np.array([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.55, 0.45]], np.float32)
    truth = np.array([0, 1, 1, 0])  # right, right, wrong, right
    words = np.array([[0.5 + 0.01 * step, 0.5 - 0.01 * step] for step in range(20)], np.float32)  # 0.5 to 0.69
    # One of twenty may pass: all but the highest lie at 0.68 or below, so 0.7 is believed and 0.55 is not.
    assert answered_share(known, truth, words, 0.05 / WORDS_FACTOR) == 0.5
    assert answered_share(known, truth, words, 1.0) == 0.5, "more than half of the words are never let pass"
    assert answered_share(known, truth, words[:1], 0.5) == 0.75
