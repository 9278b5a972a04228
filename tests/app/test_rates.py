import pytest

import app.rates as module
from app.rates import Rates


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_bucket_empties_and_fills(clock: Clock) -> None:
    rates = Rates(0.5, 3)
    assert [rates.take("a") for _ in range(4)] == [0, 0, 0, 2]
    clock.now += 1
    assert (rates.wait("a"), rates.take("a")) == (1, 1)
    clock.now += 1
    assert (rates.wait("a"), rates.take("a"), rates.take("a")) == (0, 0, 2)


def test_it_holds_no_more_than_its_burst(clock: Clock) -> None:
    rates = Rates(10, 2)
    clock.now += 1000
    assert [rates.take("a") for _ in range(3)] == [0, 0, 1]


def test_what_is_refused_costs_nothing(clock: Clock) -> None:
    rates = Rates(1, 1)
    assert rates.take("a") == 0
    assert {rates.take("a") for _ in range(100)} == {1}
    clock.now += 1
    assert rates.take("a") == 0


def test_a_rate_below_one_still_lets_one_through(clock: Clock) -> None:
    rates = Rates(0.1, 0.2)
    assert (rates.take("a"), rates.take("a")) == (0, 10)


def test_each_has_a_bucket_and_strangers_do_not_fill_the_memory(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BUCKETS", 10)
    rates = Rates(1, 1)
    assert {rates.take(name) for name in range(100)} == {0}
    assert len(rates._buckets) == 10
    assert (rates.wait(99), rates.wait(0)) == (1, 0)
