"""The Nth thing that a piece of work does to the disk, the database or the broker fails, or is the last that its process does.

The work is done again and again, with the fault at one step later each time, until it gets through undisturbed: so every step has had its
fault, whichever steps there are. Production code knows nothing of this: the calls into the system are replaced from outside.
"""

import contextlib
import errno
import io
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from worker.database import get_engine

How = Literal["error", "death"]
DIED = 86  # exit status of a process that a fault has ended
_MOST_STEPS = 500
_CALLS = ("fsync", "replace", "rename", "mkdir")  # of os; what pathlib, shutil and tempfile do ends there as well


class Faults:
    """Counts steps. At step `at` an error is raised, or the process ends as by kill -9; a `lasting` error is raised from there on."""

    def __init__(self, at: int, how: How = "error", *, lasting: bool = False) -> None:
        """`at` counts from 1; 0 never comes."""
        self.steps: list[str] = []
        self._at = at
        self._how = how
        self._lasting = lasting

    @property
    def struck(self) -> bool:
        """Whether the step was reached."""
        return 0 < self._at <= len(self.steps)

    def point(self, name: str, error: Callable[[], Exception]) -> None:
        """Count one step."""
        self.steps.append(name)
        if len(self.steps) == self._at or (self._lasting and self.struck):
            if self._how == "death":
                os._exit(DIED)
            raise error()


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def database_full() -> OperationalError:
    return OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))


@contextlib.contextmanager
def on_disk(faults: Faults, root: Path) -> Iterator[None]:
    """Count what is done to files below `root`: opening for writing, each write, fsync, renames, new folders."""
    real = io.open

    def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        if not set(mode) & set("wxa+") or isinstance(file, int) or not Path(os.fsdecode(file)).is_relative_to(root):
            return real(file, mode, buffering, *rest, **options)
        faults.point(f"open {Path(os.fsdecode(file)).name}", full)
        if "b" not in mode or "+" in mode:
            return real(file, mode, buffering, *rest, **options)
        raw = _Raw(file, mode.replace("b", ""), faults)
        return raw if buffering == 0 else io.BufferedWriter(raw)

    with contextlib.ExitStack() as stack:
        for name in _CALLS:
            stack.enter_context(mock.patch.object(os, name, _counted(faults, name, getattr(os, name))))
        for owner in ("io.open", "builtins.open"):
            stack.enter_context(mock.patch(owner, opened))
        yield


class _Raw(io.FileIO):
    """A file each of whose writes is a step; at a fault half of it is written first, as on a disk that is full."""

    def __init__(self, file: Any, mode: str, faults: Faults) -> None:
        super().__init__(file, mode)
        self._faults = faults

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self._faults.point("write", full)
        except OSError:
            super().write(view[: len(view) // 2])
            raise
        return super().write(data)


def _counted(faults: Faults, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        faults.point(name, full)
        return real(*arguments, **options)

    return call


@contextlib.contextmanager
def on_commit(faults: Faults) -> Iterator[None]:
    """Count the commits of this process's database engine; one that fails has written nothing."""

    def commit(_: object) -> None:
        faults.point("commit", database_full)

    engine = get_engine()
    event.listen(engine, "commit", commit)
    try:
        yield
    finally:
        event.remove(engine, "commit", commit)


def until_it_passes(attempt: Callable[[int], bool]) -> int:
    """Call `attempt` with 1, 2, 3 … until it says that the fault was not reached; return how many faults there were."""
    for at in itertools.count(1):
        assert at < _MOST_STEPS, "the work has no end"
        if not attempt(at):
            return at - 1
    raise AssertionError("unreachable")


def in_fork(work: Callable[[], object]) -> int:
    """Do `work` in a copy of this process and return its exit status: DIED where a fault ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a copy of pytest must not go on
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
