"""Small things about processes: dying with the parent, owning a job on this host."""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from models.errors import UnavailableError
from worker.settings import host_name

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_POLL_SECONDS = 0.05
_AUTOGROUP = Path("/proc/self/autogroup")
NICENESS = 10  # a ninth of the weight of a process that was left as it is


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux; elsewhere nothing).

    `parent` is the pid that must still be the parent: it may have died before the request was made.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def step_back() -> None:
    """Let other processes of this machine go first, predictions above all; what they leave is used in full.

    Linux weighs niceness only within a session where it groups processes by it (sched(7), autogroup), and ours are in sessions of their
    own: so the group is told, too. A container without that file needs no more than the niceness.

    To be called before torch is imported: its threads then soon sleep where they wait for one another. By GNU OpenMP's default they turn in
    circles 300 times as long, and use up with that what the group is granted. A step of resnet_tiny on two cores, ms, alone and beside
    one busy process: 44 and 2400 by default, 45 and 104 with this, 57 and 104 without any turn.
    """
    os.nice(NICENESS)
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with contextlib.suppress(OSError):  # not Linux, or no grouping; the kernel may also refuse two changes in a tenth of a second
        _AUTOGROUP.write_text(str(NICENESS))


class HostLock:
    """A named file lock on this host. The kernel frees it when its holder dies, however it dies."""

    def __init__(self, folder: Path, name: str) -> None:
        """`folder` is on a local disk; network file systems do not keep flock."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.lock"
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Return whether the lock was free; it is held from then on, and not inherited by children."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Free the lock. The file stays: unlinking it would let two holders lock two files of one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """Hold the lock inside the block. Raises UnavailableError when it is not to be had within `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.acquire():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{self._path.name} has been held by another process for {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            self.release()

    def is_abandoned(self) -> bool:
        """Return whether somebody held the lock here and does no more. Not so where it never was: its holder sees another disk."""
        abandoned = self._path.exists() and self.acquire()
        self.release()
        return abandoned

    def remove(self) -> None:
        """Delete the file of a lock whose name is never used again."""
        self._path.unlink(missing_ok=True)


def owner_name() -> str:
    """Return a name for this process that no other ever has: host, pid and the moment."""
    return f"{host_name()}:{os.getpid()}-{time.time_ns():x}"


def owner_lock(folder: Path, owner: str) -> HostLock:
    """Return the lock that an owner holds as long as it lives."""
    return HostLock(folder, owner.rpartition(":")[2])
