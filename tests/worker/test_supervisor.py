"""The supervisor's small judgements; what it does with children is in tests/faults/test_children.py."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.rig import add_job
from worker.lease import claim
from worker.settings import Settings
from worker.supervisor import _REASONS, Supervisor, _describe, _end, _tail, supervise
from worker.work import WORK


class Child:
    """Counts what it is sent."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


@pytest.fixture
def supervisor(settings: Settings) -> Supervisor:
    claimed = claim(add_job(), "here:1")
    assert claimed is not None
    return Supervisor(claimed.job, WORK["finetune"], settings)


def test_each_reason_is_given_once_and_a_weaker_one_never_after_a_stronger(supervisor: Supervisor) -> None:
    child = Child()
    for why in ("drain", "drain", "cancel", "drain", "pause", "time_limit", "cancel", "lost", "stalled"):
        supervisor._ask(child, why, 15)  # type: ignore[arg-type]
    assert len(child.signals) == 3
    assert supervisor._asked == "lost"
    assert _REASONS[0] == ""


def test_a_second_reason_does_not_prolong_the_grace(supervisor: Supervisor) -> None:
    supervisor._ask(Child(), "drain", 15)  # type: ignore[arg-type]
    due = supervisor._kill_at
    supervisor._ask(Child(), "cancel", 10)  # type: ignore[arg-type]
    assert supervisor._kill_at == due


def test_a_message_for_a_job_that_is_not_to_be_had_leaves_no_lock(settings: Settings) -> None:
    supervise("job_unknown")
    assert list(settings.lock_dir.glob("*-*.lock")) == []


def test_the_end_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert _tail(path) == ""
    path.write_bytes(b"x" * 5000 + "é".encode()[1:] + b"end")
    assert _tail(path, size=4) == "\ufffdend"


@pytest.mark.parametrize(("code", "text"), [(-9, "SIGKILL"), (-11, "SIGSEGV"), (1, "exit code 1")])
def test_how_a_child_ended(code: int, text: str) -> None:
    assert _describe(code) == text


def test_nothing_of_a_child_is_left() -> None:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    grandchild = psutil.Process(int(child.stdout.readline()))
    _end(child)
    assert child.returncode == 0
    assert not psutil.wait_procs([grandchild], timeout=5)[1]
