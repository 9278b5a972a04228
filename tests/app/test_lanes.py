import asyncio
import os
import threading
import time

import pytest

from app.lanes import Lanes
from worker.errors import OverloadedError


def lanes_of(count: int) -> Lanes:
    lanes = Lanes()
    lanes.count, lanes._free = count, asyncio.Semaphore(count)
    return lanes


def test_one_core_is_left_to_single_predictions() -> None:
    assert Lanes().count == max(1, len(os.sched_getaffinity(0)) - 1)


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_works_run_at_once_than_there_are_lanes(count: int) -> None:
    lock = threading.Lock()
    running: list[int] = [0, 0]  # now, most

    def work() -> int:
        with lock:
            running[0] += 1
            running[1] = max(running)
        time.sleep(0.02)
        with lock:
            running[0] -= 1
        return 7

    async def run() -> list[int]:
        lanes = lanes_of(count)
        return await asyncio.gather(*(lanes.run(work) for _ in range(6)))

    assert asyncio.run(run()) == [7] * 6
    assert running[1] == count


def test_a_lane_is_free_again_after_a_failure() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def run() -> None:
        lanes = lanes_of(1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await lanes.run(fail)

    asyncio.run(run())


def test_what_can_not_begin_in_time_is_refused_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lanes.MAX_WAIT_SECONDS", 0.02)

    async def run() -> None:
        lanes = lanes_of(1)
        await lanes.take()
        with pytest.raises(OverloadedError) as caught:
            await lanes.run(int)
        assert caught.value.retry_after >= 1
        lanes.give_back()
        assert await lanes.run(int) == 0

    asyncio.run(run())
