"""Sounds wait here for a thread. One that becomes free takes what waits for one engine, up to a measured number: no timer.

So a sound that comes alone never waits for others, and batches grow by themselves while all threads are busy.
"""

import asyncio
import collections
import functools
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.engine import Engine

Result = TypeVar("Result")
MAX_BATCH = 16  # sounds that one thread takes at once: beyond it no engine here is quicker a sound, and memory grows
BATCH_SECONDS = 0.02  # of work that one thread takes at once: what a sound that comes a moment later waits for
_FIRST_GUESS_SECONDS = 0.02  # of work a sound, before any was measured
_SMOOTHING = 0.1  # weight of the newest measurement
_MOST_SLOWER = 4.0  # than before that a batch may count as


@dataclass(slots=True, eq=False)
class Waiting(Generic[Result]):
    """A sound in the queue."""

    data: bytes
    finish: Callable[..., Result]
    """makes the result, in the thread, of what `work` hands it"""
    until: float
    """monotonic seconds: begun later, the answer would come too late"""
    cost: float
    """seconds of work that it was taken for when it came"""
    since: float
    done: "Callable[[Result | BaseException], None]"
    """is called in the loop with what came of it"""
    loop: asyncio.AbstractEventLoop


Outcome = tuple[Waiting[Result], Result | BaseException]
Work = Callable[[Engine, Sequence[Waiting[Result]]], Iterator[list[Outcome[Result]]]]


class Queue(Generic[Result]):
    """The queue of one process and its threads, which start with the first sound."""

    def __init__(self, work: Work[Result], threads: int) -> None:
        """`work` turns sounds for one engine into results or exceptions, handing out those that are ready; it must not raise."""
        self.threads = threads
        self.owed = 0.0
        """seconds of work that has been taken in and is not done, for one thread"""
        self.pace = _FIRST_GUESS_SECONDS
        """seconds of work that a sound took lately, whatever the engine"""
        self._work = work
        self._lines: dict[Engine, collections.deque[Waiting[Result]]] = {}
        self._pace: weakref.WeakKeyDictionary[Engine, float] = weakref.WeakKeyDictionary()
        self._condition = threading.Condition()
        self._busy = 0
        self._started = False
        self._closed = False

    @property
    def wait_seconds(self) -> float:
        """How long a sound that comes now is expected to wait."""
        return self.owed / self.threads

    def ask(self, engine: Engine, data: bytes, finish: Callable[..., Result], until: float) -> asyncio.Future[Result]:
        """Put a sound into the queue; the future is one of the running loop. Never blocks for longer than a lock."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self.put(engine, data, finish, until, functools.partial(_settle, future), loop)
        return future

    def put(
        self,
        engine: Engine,
        data: bytes,
        finish: Callable[..., Result],
        until: float,
        done: Callable[[Result | BaseException], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Put a sound into the queue; `done` is called in `loop`. Never blocks for longer than a lock."""
        cost = self._pace.get(engine, _FIRST_GUESS_SECONDS)
        asked = Waiting(data, finish, until, cost, time.monotonic(), done, loop)
        with self._condition:
            if not self._started:
                self._start()
            self._lines.setdefault(engine, collections.deque()).append(asked)
            self.owed += cost
            if self._busy < self.threads:
                self._condition.notify()

    def close(self) -> None:
        """End the threads after what they have begun; what waits is cancelled. From the loop that it waits in."""
        with self._condition:
            self._closed = True
            left = [asked for line in self._lines.values() for asked in line]
            self._lines = {}
            self._condition.notify_all()
        for asked in left:
            asked.done(asyncio.CancelledError())

    def _start(self) -> None:
        self._started = True
        for number in range(self.threads):
            threading.Thread(target=self._run, name=f"predict-{number}", daemon=True).start()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            engine, batch = taken
            began = time.perf_counter()
            for outcomes in self._work(engine, batch):
                _deliver(outcomes)
            self._measure(engine, time.perf_counter() - began, batch)
            del taken, engine, batch, outcomes  # a thread that waits must not keep an engine or a sound

    def _take(self) -> tuple[Engine, list[Waiting[Result]]] | None:
        """Wait for work; return sounds for one engine, those that have waited longest, or None at the end."""
        with self._condition:
            while not self._lines and not self._closed:
                self._condition.wait()
            if self._closed:
                return None
            engine, line = min(self._lines.items(), key=lambda item: item[1][0].since)
            count = min(self._most(engine), math.ceil(len(line) / (self.threads - self._busy)))  # the other idle threads get their share
            batch = [line.popleft() for _ in range(count)]
            if not line:
                del self._lines[engine]
            self._busy += 1
            return engine, batch

    def _most(self, engine: Engine) -> int:
        return max(1, min(MAX_BATCH, int(BATCH_SECONDS / self._pace.get(engine, _FIRST_GUESS_SECONDS))))

    def _measure(self, engine: Engine, seconds: float, batch: Sequence[Waiting[Result]]) -> None:
        with self._condition:
            self._busy -= 1
            before = self._pace.get(engine, _FIRST_GUESS_SECONDS)
            # A process that was stopped for a while measures that, too, and the first sound finds everything cold: one batch must not
            # make it refuse everything for a time. That an engine is quicker than was guessed is believed at once.
            now = min(seconds / len(batch), _MOST_SLOWER * before)
            quicker = engine not in self._pace and now < before
            self.pace += _SMOOTHING * (now - self.pace)
            self._pace[engine] = now if quicker else before + _SMOOTHING * (now - before)
            self.owed -= sum(asked.cost for asked in batch)


def _deliver(outcomes: Sequence[Outcome[Result]]) -> None:
    """Give results to their loops: one call a loop, as each wakes it up."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome[Result]]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, own in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, own)
        except RuntimeError:  # the loop is closed: nobody waits any more
            continue


def _resolve(outcomes: Sequence[Outcome[Result]]) -> None:
    for asked, result in outcomes:
        asked.done(result)


def _settle(future: asyncio.Future[Result], result: Result | BaseException) -> None:
    if future.done():  # the caller has given up
        return
    if isinstance(result, asyncio.CancelledError):
        future.cancel()
    elif isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
