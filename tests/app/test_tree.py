import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app import tree as module
from app.tree import Program, Signals, Tree, Watched, exit_reason, restart_pause
from tests.app.conftest import wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w').close(); time.sleep(60)"
DESCRIPTORS = """
import os, sys
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
open(sys.argv[1], "w").write(str([is_open(int(number)) for number in sys.argv[2:]]))
"""


class Part:
    """A part that lives and dies at a word, and writes down what happens to it."""

    def __init__(self, name: str, record: list[str], *, stubborn: bool = False) -> None:
        self.name = name
        self.code: int | None = 0
        self._record = record
        self._stubborn = stubborn

    def start(self) -> None:
        self._record.append(f"start {self.name}")
        self.code = None

    def exit_code(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self._record.append(f"terminate {self.name}")
        if not self._stubborn:
            self.code = 0

    def kill(self) -> None:
        if self.code is None:
            self._record.append(f"kill {self.name}")
            self.code = -9


@pytest.fixture
def record() -> list[str]:
    return []


@pytest.fixture
def signals() -> Signals:
    return Signals()


def test_stages_start_in_order_and_stop_the_other_way_round(record: list[str], signals: Signals) -> None:
    tree = Tree([[Part("broker", record)], [Part("api", record), Part("worker", record)]], record.append)
    tree.start()
    assert tree.stop(signals, 5.0)
    assert record == ["start broker", "start api", "start worker", "terminate api", "terminate worker", "terminate broker"]


def test_what_does_not_end_in_time_is_killed(record: list[str], signals: Signals) -> None:
    tree = Tree([[Part("broker", record)], [Part("worker", record, stubborn=True)]], record.append)
    tree.start()
    began = time.monotonic()
    assert not tree.stop(signals, 0.3)
    assert time.monotonic() - began < 3
    assert record[2:] == ["terminate worker", "worker is killed", "kill worker", "terminate broker"]


def test_a_second_signal_kills_at_once(record: list[str], signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree([[Part("worker", record, stubborn=True)]], record.append)
    tree.start()
    signals.stops = 1
    monkeypatch.setattr(signals, "wait", lambda _: setattr(signals, "stops", signals.stops + 1))
    began = time.monotonic()
    assert not tree.stop(signals, 60.0)
    assert time.monotonic() - began < 5


def test_what_has_died_is_started_again(record: list[str]) -> None:
    part = Part("api", record)
    tree = Tree([[part]], record.append)
    tree.start()
    tree.check()
    assert record == ["start api"], "what lives is left alone"
    for code in (1, -9):
        part.code = code
        tree.check()
    assert record[1::2] == [
        "api ended with status 1 after 0.0 s; it is started again now",
        "api ended with SIGKILL after 0.0 s; it is started again now",
    ]
    assert tree.worst_quick_deaths() == 2


def test_quick_deaths_are_answered_more_and_more_slowly(record: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    part = Part("api", record)
    watched = Watched(part, record.append)
    watched.start()
    starts: list[float] = []
    for _ in range(4000):
        clock[0] += 0.05
        before = record.count("start api")
        watched.check()
        if record.count("start api") > before:
            starts.append(clock[0])
        part.code = 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps[:6] == pytest.approx([0.05, 1.05, 2.05, 4.05, 8.05, 16.05], abs=0.06)
    assert max(gaps) < 31


def test_a_long_life_is_forgiven(record: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    part = Part("api", record)
    watched = Watched(part, record.append)
    watched.start()
    watched.quick_deaths = 5
    clock[0], part.code = 11.0, 1
    watched.check()
    assert watched.quick_deaths == 0
    assert record[-1] == "start api"


@pytest.mark.parametrize(("deaths", "pause"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 4), (7, 16), (8, 30), (50, 30), (5000, 30)])
def test_pauses(deaths: int, pause: float) -> None:
    assert restart_pause(deaths) == pause


def test_reasons_are_for_people() -> None:
    assert (exit_reason(0), exit_reason(70), exit_reason(-15)) == ("status 0", "status 70", "SIGTERM")
    assert exit_reason(-signal.SIGRTMIN - 3), "a signal without a name has a reason too"


def test_a_program_starts_ends_and_starts_again() -> None:
    program = Program("sleep", SLEEP)
    assert program.exit_code() == 0
    program.start()
    first = program.pid
    assert program.exit_code() is None
    program.terminate()
    wait_until(lambda: program.exit_code() is not None)
    assert program.exit_code() == -signal.SIGTERM
    program.start()
    assert program.pid != first
    program.kill()
    assert program.exit_code() == -signal.SIGKILL
    program.kill()


def test_killing_takes_the_children_along(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"import subprocess, sys, time; c = subprocess.Popen({SLEEP!r}); open({str(marker)!r}, 'w').write(str(c.pid)); time.sleep(60)"
    program = Program("parent", [sys.executable, "-c", script])
    program.start()
    wait_until(lambda: marker.exists() and marker.read_text())
    child = psutil.Process(int(marker.read_text()))
    program.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_program_inherits_the_descriptors_it_needs_and_no_others(tmp_path: Path) -> None:
    passed, kept = os.pipe()
    out = tmp_path / "out"
    program = Program("fds", [sys.executable, "-c", DESCRIPTORS, str(out), str(passed), str(kept)], (passed,))
    program.start()
    wait_until(lambda: program.exit_code() is not None)
    os.close(passed)
    os.close(kept)
    assert out.read_text() == "[True, False]"


def test_programs_die_with_their_parent(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = (
        "import sys, time; from app.tree import Program; "
        f"p = Program('x', {SLEEP!r}); p.start(); open({str(marker)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    wait_until(lambda: marker.exists() and marker.read_text())
    child = psutil.Process(int(marker.read_text()))
    parent.kill()
    parent.wait()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_signals_are_counted_and_wake_a_wait(signals: Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.installed():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(os.getpid(), number)
        began = time.monotonic()
        signals.wait(30.0)
        assert time.monotonic() - began < 5
        assert signals.stops == 3
        program = Program("quick", [sys.executable, "-c", ""])
        program.start()
        wait_until(lambda: program.exit_code() is not None)
        signals.wait(0.0)
        assert signals.stops == 3, "a child's death is no wish to stop"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_tree_of_real_programs_stops_within_its_time(tmp_path: Path, record: list[str], signals: Signals) -> None:
    ready = tmp_path / "ready"
    stubborn = Program("stubborn", [sys.executable, "-c", DEAF, str(ready)])
    tree = Tree([[Program("sleep", SLEEP), stubborn]], record.append)
    with signals.installed():
        tree.start()
        wait_until(ready.exists)
        assert not tree.stop(signals, 0.5)
    assert record == ["stubborn is killed"]
    assert stubborn.exit_code() == -signal.SIGKILL


def test_killing_a_tree_is_safe_at_any_time(record: list[str]) -> None:
    make: Callable[[], Program] = lambda: Program("sleep", SLEEP)  # noqa: E731 - twice the same
    tree = Tree([[make()], [make()]], record.append)
    tree.kill()
    tree.start()
    tree.kill()
    tree.kill()
