"""Room for heavier work beside `POST /predict`: never all cores, so that a single prediction always finds one."""

import asyncio
import math
from collections.abc import Callable
from typing import TypeVar

from worker.errors import OverloadedError
from worker.processes import processors

T = TypeVar("T")
MAX_WAIT_SECONDS = 2.0  # work that could not begin within this is refused


class Lanes:
    """How many of these works run at once in one process: one fewer than there are cores, at least one."""

    def __init__(self) -> None:
        """All lanes are free."""
        self.count = max(1, processors() - 1)
        self._free = asyncio.Semaphore(self.count)

    async def take(self) -> None:
        """Wait for a free lane, however long that takes, and take it."""
        await self._free.acquire()

    def give_back(self) -> None:
        """Let the next one have the lane."""
        self._free.release()

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, done in a thread as soon as a lane is free.

        Raises OverloadedError where none becomes free within MAX_WAIT_SECONDS, and what `work` raises.
        """
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self.take()
        except TimeoutError:
            raise OverloadedError("the work could not begin in time", retry_after=math.ceil(MAX_WAIT_SECONDS)) from None
        try:
            return await asyncio.to_thread(work)
        finally:
            self.give_back()
