"""Progress lines: the time left, and how wrong the first one was."""

from types import SimpleNamespace
from typing import Any

import pytest

from models.training import Progress
from worker.telemetry import Telemetry


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("worker.telemetry.time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Lines(list[dict[str, Any]]):
    def __call__(self, kind: str, **fields: Any) -> None:
        self.append({"kind": kind, **fields})


def progress(step: int, *, steps: int = 100, phase: str = "training") -> Progress:
    return Progress(phase, 1, 1, step, steps, None, 10.0)


def train(telemetry: Telemetry, clock: Clock, seconds: list[float], *, phase: str = "training") -> None:
    """Report a step after each of these times."""
    for step, wait in enumerate(seconds, start=1):
        clock.now += wait
        telemetry.training(progress(step, steps=len(seconds), phase=phase))


def test_the_time_left_goes_by_the_pace_so_far(clock: Clock) -> None:
    lines = Lines()
    train(Telemetry(lines), clock, [1.0] * 10)
    assert lines[0]["eta_seconds"] is None, "there is no pace yet"
    assert [line["eta_seconds"] for line in lines[1:]] == [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]


def test_the_first_time_left_after_a_tenth_is_held_against_what_it_took(clock: Clock) -> None:
    telemetry = Telemetry(Lines())
    train(telemetry, clock, [1.0] * 10 + [2.0] * 90)  # at step 10 it says 90 s; it takes 180
    assert telemetry.eta_error() == {"eta_error": 0.5}


def test_an_even_pace_is_foreseen(clock: Clock) -> None:
    telemetry = Telemetry(Lines())
    train(telemetry, clock, [0.5] * 100)
    assert telemetry.eta_error() == {"eta_error": 0.0}


def test_what_came_before_the_training_that_counts_is_no_measure_of_it(clock: Clock) -> None:
    lines = Lines()
    telemetry = Telemetry(lines)
    train(telemetry, clock, [30.0] * 4, phase="choosing")
    train(telemetry, clock, [20.0] * 4, phase="choosing")  # another arm of the race
    assert [line["eta_seconds"] for line in lines] == [None, 60.0, 30.0, 0.0, None, 40.0, 20.0, 0.0]
    train(telemetry, clock, [1.0] * 20)
    assert lines[9]["eta_seconds"] == 18.0
    telemetry.phase("evaluating")
    clock.now += 1000
    assert telemetry.eta_error() == {"eta_error": 0.0}


def test_nothing_is_said_of_a_training_that_showed_no_time(clock: Clock) -> None:
    telemetry = Telemetry(Lines())
    train(telemetry, clock, [1.0])
    assert telemetry.eta_error() == {}
