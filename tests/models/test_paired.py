"""Whether two models can be told apart: against values that were published or can be counted by hand."""

import pytest

from models.paired import difference_interval, mcnemar


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"), [(0, 0, 1.0), (0, 1, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (3, 3, 1.0), (1, 9, 0.021484375)]
)
def test_the_coin_is_counted(only_first: int, only_second: int, expected: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(expected)
    assert mcnemar(only_second, only_first) == pytest.approx(expected)


def test_many_items_overflow_nothing() -> None:
    assert mcnemar(3000, 3200) == pytest.approx(0.0115, abs=2e-3)


def test_newcombes_own_example() -> None:
    """56 of 70 against 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, example a, method 10)."""
    from models.evaluation import wilson_interval

    first, second = wilson_interval(56, 70), wilson_interval(48, 80)
    low, high = difference_interval(56 / 70, (first[0], first[1]), 48 / 80, (second[0], second[1]))
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
