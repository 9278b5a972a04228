import numpy as np
import pytest

from app.demo.report import Gain, paired_gain

SPEAKERS = [f"s{number}" for number in range(10) for _ in range(20)]


def answers(*right: float, seed: int = 0) -> np.ndarray:
    """Per speaker, the share of its twenty clips that are right."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.permutation(np.arange(20) < round(20 * share)) for share in right])


def test_no_difference_is_none() -> None:
    same = answers(*[0.5] * 10)
    assert paired_gain(same, same, SPEAKERS) == Gain(0.0, 0.0, 0.0)


def test_a_clear_gain_and_a_clear_loss() -> None:
    good, bad = answers(*[0.9] * 10), answers(*[0.6] * 10, seed=1)
    gain = paired_gain(good, bad, SPEAKERS)
    assert gain.mean == pytest.approx(0.3)
    assert gain.low > 0
    assert "helped it to listen: +30.0 points" in gain.verdict
    loss = paired_gain(bad, good, SPEAKERS)
    assert (loss.mean, loss.low, loss.high) == pytest.approx((-gain.mean, -gain.high, -gain.low), abs=0.02)
    assert "in the way" in loss.verdict


def test_one_voice_is_not_enough_to_be_sure() -> None:
    ours, theirs = answers(1.0, *[0.5] * 9), answers(0.0, *[0.5] * 9)
    gain = paired_gain(ours, theirs, SPEAKERS)
    assert gain.mean == pytest.approx(0.1)
    assert gain.low <= 0 <= gain.high
    assert "neither helped nor hurt" in gain.verdict


def test_voices_with_more_clips_weigh_more() -> None:
    speakers = ["a"] * 30 + ["b"] * 10
    assert paired_gain(np.ones(40, bool), np.arange(40) >= 30, speakers).mean == pytest.approx(0.75)


def test_the_interval_repeats_with_the_seed_and_covers_the_mean() -> None:
    ours, theirs = answers(*np.linspace(0.4, 1, 10)), answers(*np.linspace(0.3, 0.8, 10), seed=3)
    first = paired_gain(ours, theirs, SPEAKERS, seed=1)
    assert first == paired_gain(ours, theirs, SPEAKERS, seed=1)
    assert first.low <= first.mean <= first.high


def test_a_resampled_interval_agrees_with_the_closed_form() -> None:
    """With one clip a speaker the cluster bootstrap is the ordinary one: 1.96 standard errors of a mean."""
    random = np.random.default_rng(5)
    ours, theirs = random.random(400) < 0.8, random.random(400) < 0.7
    gain = paired_gain(ours, theirs, [str(number) for number in range(400)])
    difference = ours.astype(float) - theirs.astype(float)
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * difference.std() / 20, rel=0.05)
