"""The temperature: found again where it is known, harmless where it can't be, and never a change of answer."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models import calibration
from models.calibration import LEAST_ITEMS, calibrated, fit_calibration
from models.evaluation import expected_calibration_error


def scored(n: int, temperature: float, seed: int = 0, classes: int = 4) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits that are `temperature` times too large, and labels drawn from what they should have been."""
    random = np.random.default_rng(seed)
    honest = random.normal(0, 2, (n, classes))
    chances = calibrated(honest.astype(np.float32), 1.0).cumsum(axis=1)
    truth = (random.random((n, 1)) > chances).sum(axis=1).clip(max=classes - 1)
    return (honest * temperature).astype(np.float32), truth.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_again(temperature: float) -> None:
    found = fit_calibration(*scored(20_000, temperature))
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.items == 20_000


def test_it_mends_other_items_too() -> None:
    found = fit_calibration(*scored(2000, 3.0))
    logits, truth = scored(2000, 3.0, seed=1)
    before, after = (expected_calibration_error(calibrated(logits, t), truth) for t in (1.0, found.temperature))
    assert before > 0.1
    assert after < 0.04


def test_it_is_where_the_likelihood_is_highest() -> None:
    logits, truth = scored(400, 2.0)
    found = fit_calibration(logits, truth).temperature

    def loss(temperature: float) -> float:
        return float(-np.log(calibrated(logits, temperature)[np.arange(400), truth]).mean())

    assert loss(found) < min(loss(found * 1.05), loss(found / 1.05))


def test_too_few_items_leave_everything_as_it_is() -> None:
    logits, truth = scored(LEAST_ITEMS - 1, 3.0)
    found = fit_calibration(logits, truth)
    assert (found.temperature, found.items) == (1.0, 0)
    assert str(LEAST_ITEMS) in str(found.as_json()["not_fitted"])
    assert fit_calibration(*scored(LEAST_ITEMS, 3.0)).as_json()["not_fitted"] is None


def test_items_that_are_all_right_do_not_ask_for_certainty() -> None:
    truth = np.arange(100) % 4
    logits = (3 * np.eye(4)[truth]).astype(np.float32)
    certain = calibrated(logits, fit_calibration(logits, truth).temperature).max()
    assert 0.98 < certain < 0.995, "one doubt in 102 items"


def test_answers_stay_and_rows_add_up() -> None:
    logits, _ = scored(200, 1.0)
    for temperature in (0.25, 1.0, 10.0):
        probabilities = calibrated(logits, temperature)
        assert probabilities.dtype == np.float32
        np.testing.assert_array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.isfinite(calibrated(np.array([[1e4, -1e4]], np.float32), 0.25)).all()


def test_of_a_great_many_items_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(5, size=40_000)
    logits = (2.0 * np.eye(5)[truth] + random.normal(0, 1, (40_000, 5))).astype(np.float32)
    whole = fit_calibration(logits, truth)
    monkeypatch.setattr(calibration, "_MOST_LOGITS", 5 * 10_000)
    some = fit_calibration(logits, truth)
    assert (whole.items, some.items) == (40_000, 10_000)
    assert some.temperature == pytest.approx(whole.temperature, rel=0.03)
