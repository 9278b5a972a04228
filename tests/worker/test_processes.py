"""Locks that die with their holder, and processes that die with their parent."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from models.errors import UnavailableError
from worker.processes import NICENESS, HostLock, owner_lock, owner_name
from worker.settings import host_name


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first, second = HostLock(tmp_path, "one"), HostLock(tmp_path, "one")
    assert first.acquire()
    assert not second.acquire()
    assert HostLock(tmp_path, "other").acquire()
    first.release()
    first.release()
    assert second.acquire()


def test_waiting_for_a_lock_has_an_end(tmp_path: Path) -> None:
    holder, waiter = HostLock(tmp_path, "one"), HostLock(tmp_path, "one")
    with holder.held(0), pytest.raises(UnavailableError, match=r"one\.lock"), waiter.held(0.1):
        pass
    with waiter.held(0):
        assert not holder.acquire()
    assert holder.acquire()


def test_a_lock_is_abandoned_when_its_holder_was_killed(tmp_path: Path) -> None:
    lock = HostLock(tmp_path, "one")
    assert not lock.is_abandoned()  # nobody ever held it here
    assert not list(tmp_path.iterdir())  # and asking leaves no file
    code = "import sys, time; from pathlib import Path; from worker.processes import HostLock; "
    code += "HostLock(Path(sys.argv[1]), 'one').acquire() and print('held', flush=True); time.sleep(60)"
    # `HostLock(...)` is not kept, but a descriptor is closed with its process alone.
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not lock.is_abandoned()
        holder.kill()
    assert lock.is_abandoned()
    assert lock.is_abandoned()  # asking does not take it
    lock.remove()
    assert not lock.is_abandoned()


def test_owners_have_names_and_locks_of_their_own(tmp_path: Path) -> None:
    first, second = owner_name(), owner_name()
    assert first != second
    assert first.startswith(f"{host_name()}:{os.getpid()}-")
    assert owner_lock(tmp_path, first).acquire()
    assert owner_lock(tmp_path, second).acquire()
    assert not owner_lock(tmp_path, first).acquire()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    child = "import os, time; from worker.processes import die_with_parent; die_with_parent(os.getppid()); "
    child += "print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        grandchild = psutil.Process(int(process.stdout.readline()))
        process.kill()
        assert not psutil.wait_procs([grandchild], timeout=5)[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    code = "from worker.processes import die_with_parent; die_with_parent(1); print('lives')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")


def test_stepping_back_tells_the_kernel_in_both_ways() -> None:
    code = "from pathlib import Path; from worker.processes import step_back; step_back(); import os; print(os.nice(0)); "
    code += "group = Path('/proc/self/autogroup'); print(group.read_text() if group.exists() else '')"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, start_new_session=True).stdout
    nice, _, group = found.partition("\n")
    assert int(nice) == os.nice(0) + NICENESS
    assert not group.strip() or group.split()[-1] == str(NICENESS)


@pytest.mark.parametrize(("given", "found"), [({}, "1000"), ({"GOMP_SPINCOUNT": "5"}, "5")])
def test_threads_that_wait_soon_sleep_unless_told_otherwise(given: dict[str, str], found: str) -> None:
    code = "from worker.processes import step_back; step_back(); import os; print(os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    # In a session of its own: the one that runs the tests would step back with it, for good.
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, start_new_session=True)
    assert done.stdout.strip() == found
