"""The soak: what it says of memory, and that it fails where something is wrong; a short one is run whole."""

import json
from pathlib import Path

import pytest

from tests.faults.growth import Growth
from tests.faults.invariants import Answers
from tests.faults.soak import Soak, soak
from tests.service import Service

MIB = 2**20


def watched(lives: list[tuple[float, float]], *, a_minute: float, start: float = 80 * MIB) -> Growth:
    """Processes that lived from one age to another, in seconds, and grew by `a_minute` bytes meanwhile."""
    growth = Growth()
    for pid, (first, last) in enumerate(lives):
        for age in range(int(first), int(last), 10):
            growth.note(pid, float(pid), age, start + a_minute * age / 60 + MIB * (age % 3))
    return growth


def test_a_leak_is_seen_though_its_processes_are_killed() -> None:
    lives = [(0, 200), (0, 500), (0, 240), (0, 150)]
    assert watched(lives, a_minute=2 * MIB).a_minute == pytest.approx(2 * MIB, rel=0.1)
    assert watched(lives, a_minute=0).a_minute == pytest.approx(0, abs=0.1 * MIB)


def test_processes_of_different_sizes_are_no_growth() -> None:
    growth = watched([(0, 500)], a_minute=0)
    for age in range(130, 400, 10):
        growth.note(99, 99.0, age, 300 * MIB)
    assert growth.a_minute == pytest.approx(0, abs=0.1 * MIB)


@pytest.mark.parametrize("lives", [[], [(0, 100)], [(0, 300), (0, 400)]])
def test_who_was_seen_too_shortly_is_not_judged(lives: list[tuple[float, float]]) -> None:
    assert watched(lives, a_minute=50 * MIB).a_minute is None


def test_what_goes_wrong_is_told_and_the_rest_is_still_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Soak(Service(tmp_path), Answers(), seed=5)
    run.growth["api"] = watched([(0, 600)], a_minute=3 * MIB)
    run.growth["worker"] = watched([(0, 600)], a_minute=0.1 * MIB)
    run.judge("memory", run.check_growth)
    run.answers.take("GET /jobs", 500, {}, b"")
    run.judge("answers", run.answers.check)
    found = run.report(1)
    assert (found["passed"], found["seed"]) == (False, 5)
    assert [words.partition(":")[0] for words in run.broken] == ["memory", "answers"]
    assert "'api'" in run.broken[0]
    assert "'worker'" not in run.broken[0]
    assert capsys.readouterr().out.count("BROKEN") == 2


@pytest.mark.slow
def test_a_short_one_holds(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    assert soak(0.8, 3, report) == 0
    found = json.loads(report.read_text())
    assert (found["passed"], found["broken"], len(found["faults"])) == (True, [], 2)
    assert found["predictions"] > 20
