"""A tree of processes that lives and dies as one: started in stages, restarted when a part dies, ended last stage first.

The parent is single-threaded on purpose: the kernel's parent-death signal is bound to the thread that started the child.
"""

import contextlib
import functools
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Protocol

from worker.processes import die_with_parent

_QUICK_SECONDS = 10.0  # a part that lived shorter than this died quickly
_FREE_RESTARTS = 2  # quick deaths in a row that are answered at once
_MAX_PAUSE_SECONDS = 30.0
_MAX_DOUBLINGS = 5  # 32 s: beyond it the power would only grow, in the end past what a float holds
_POLL_SECONDS = 0.2  # a death on a platform where SIGCHLD was lost is seen this late
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Part(Protocol):
    """One member of the tree."""

    @property
    def name(self) -> str:
        """What people call it."""

    def start(self) -> None:
        """Start, also again after a death."""

    def exit_code(self) -> int | None:
        """Return None while it runs, else its exit status (negative: the signal)."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it and what it started, and wait for it."""


class Program:
    """A command as a part of the tree, in a session of its own: Ctrl-C reaches the parent alone, which then ends the rest in order."""

    def __init__(self, name: str, command: Sequence[str], pass_fds: Sequence[int] = ()) -> None:
        """`pass_fds` are open descriptors that the program inherits under the same numbers."""
        self._name = name
        self._command = list(command)
        self._pass_fds = tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def pid(self) -> int | None:
        """Process id once it was started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the command; it is killed when the calling thread ends."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            pass_fds=self._pass_fds,
            start_new_session=True,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - the parent has one thread
        )

    def exit_code(self) -> int | None:
        """Return None while it runs, else its exit status (negative: the signal)."""
        return self._process.poll() if self._process else 0

    def terminate(self) -> None:
        """Send SIGTERM to the command, not to its children: a worker ends its own."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the command with everything in its session's process group."""
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Signals:
    """Counts requests to stop, and wakes a wait on any signal, a child's death among them."""

    def __init__(self) -> None:
        """Handlers are installed by `installed`."""
        self.stops = 0
        self._wake_end, self._signal_end = os.pipe()

    @contextlib.contextmanager
    def installed(self) -> Iterator["Signals"]:
        """Handle INT, TERM, HUP and CHLD inside the block. Main thread only."""
        os.set_blocking(self._wake_end, False)
        os.set_blocking(self._signal_end, False)
        before = {number: signal.signal(number, self._count) for number in (*_STOP_SIGNALS, signal.SIGCHLD)}
        wakeup_before = signal.set_wakeup_fd(self._signal_end, warn_on_full_buffer=False)
        try:
            yield self
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake_end)
            os.close(self._signal_end)

    def wait(self, seconds: float) -> None:
        """Sleep until a signal comes, at most `seconds`."""
        if select.select([self._wake_end], [], [], max(seconds, 0.0))[0]:
            os.read(self._wake_end, 4096)

    def _count(self, number: int, _frame: FrameType | None) -> None:
        self.stops += number in _STOP_SIGNALS


class Watched:
    """A part with its record of deaths."""

    def __init__(self, part: Part, report: Callable[[str], None]) -> None:
        """`report` receives one sentence for people on each death."""
        self.part = part
        self.quick_deaths = 0
        self._report = report
        self._started = 0.0
        self._due: float | None = None  # when a dead part is to be started again

    def start(self) -> None:
        """Start the part and note when."""
        self._due = None
        self._started = time.monotonic()
        self.part.start()

    def check(self) -> None:
        """Restart the part when it has died: at once, from the third quick death in a row after a pause that doubles."""
        now = time.monotonic()
        code = self.part.exit_code()
        if code is None:
            return
        if self._due is None:
            quick = now - self._started < _QUICK_SECONDS
            self.quick_deaths = self.quick_deaths + 1 if quick else 0
            pause = restart_pause(self.quick_deaths)
            self._due = now + pause
            when = f"in {pause:.0f} s" if pause else "now"
            self._report(f"{self.part.name} ended with {exit_reason(code)} after {now - self._started:.1f} s; it is started again {when}")
        if now >= self._due:
            self.start()


class Tree:
    """Stages of parts. A later stage needs the earlier ones."""

    def __init__(self, stages: Sequence[Sequence[Part]], report: Callable[[str], None]) -> None:
        """`report` receives sentences for people."""
        self._stages = [[Watched(part, report) for part in stage] for stage in stages]
        self._report = report

    def start(self) -> None:
        """Start every part in order."""
        for watched in self._all():
            watched.start()

    def check(self) -> None:
        """Restart what has died. Call on every wake-up."""
        for watched in self._all():
            watched.check()

    def worst_quick_deaths(self) -> int:
        """Return how often in a row the least stable part has died quickly."""
        return max((watched.quick_deaths for watched in self._all()), default=0)

    def stop(self, signals: Signals, seconds: float) -> bool:
        """End all parts, last stage first, within `seconds`; a further stop signal kills at once. Returns whether none had to be killed."""
        deadline = time.monotonic() + seconds
        patience = signals.stops + 1
        gentle = True
        for stage in reversed(self._stages):
            parts = [watched.part for watched in stage if watched.part.exit_code() is None]
            for part in parts:
                part.terminate()
            while _running(parts) and time.monotonic() < deadline and signals.stops < patience:
                signals.wait(min(_POLL_SECONDS, deadline - time.monotonic()))
            for part in _running(parts):
                gentle = False
                self._report(f"{part.name} is killed")
                part.kill()
        return gentle

    def kill(self) -> None:
        """Kill all parts."""
        for watched in self._all():
            watched.part.kill()

    def _all(self) -> Iterator[Watched]:
        return (watched for stage in self._stages for watched in stage)


def restart_pause(quick_deaths: int) -> float:
    """Return seconds to wait before the next start: none for the first two quick deaths in a row, then 1, 2, 4 … 30."""
    doublings = min(quick_deaths - _FREE_RESTARTS - 1, _MAX_DOUBLINGS)
    return min(_MAX_PAUSE_SECONDS, 2.0**doublings) if doublings >= 0 else 0.0


def exit_reason(code: int) -> str:
    """Return how a process ended, for people: its exit status or the signal's name."""
    if code >= 0:
        return f"status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # real-time signals have no names of their own
        return f"signal {-code}"


def _running(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.exit_code() is None]
