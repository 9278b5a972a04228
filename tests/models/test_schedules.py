"""Schedules: shares of the peak rate."""

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import ScheduleName
from models.schedules import SCHEDULES, factor


def test_every_name_of_the_contract_is_there() -> None:
    assert set(SCHEDULES) == set(get_args(ScheduleName))


@given(name=st.sampled_from(list(SCHEDULES)), total=st.integers(1, 500), data=st.data())
def test_stays_between_nothing_and_the_peak(name: ScheduleName, total: int, data: st.DataObject) -> None:
    assert 0 <= factor(name, data.draw(st.integers(0, total - 1)), total) <= 1


def test_one_cycle_rises_once_and_falls_once() -> None:
    rates = [factor("one_cycle", update, 100) for update in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == rates[20] == pytest.approx(1)
    assert all(one < other for one, other in pairwise(rates[:21]))
    assert all(one > other for one, other in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(1e-3)


def test_cosine_falls_from_the_peak_to_nothing_through_the_half() -> None:
    assert [factor("cosine", update, 4) for update in (0, 2, 4)] == pytest.approx([1, 0.5, 0], abs=1e-12)


def test_step_falls_twice() -> None:
    assert [factor("step", update, 8) for update in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant_is() -> None:
    assert {factor("constant", update, 9) for update in range(9)} == {1.0}


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_patience_is_a_share_of_the_way(name: ScheduleName) -> None:
    assert 0 <= SCHEDULES[name].patient_from < 1
