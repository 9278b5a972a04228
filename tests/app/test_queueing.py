"""The queue: nothing waits for a timer, what waits is taken together, and every caller hears of the end."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from app import queueing
from app.queueing import MAX_BATCH, Outcome, Queue, Waiting
from tests.app.conftest import wait_until


class Model:
    """Stands where an engine stands; the queue only tells them apart."""


class Crew:
    """Work that can be held up, and that writes down what it was given."""

    def __init__(self) -> None:
        self.batches: list[tuple[Any, list[bytes]]] = []
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.seconds = 0.0

    def __call__(self, engine: Any, batch: Sequence[Waiting[str]]) -> Iterator[list[Outcome[str]]]:
        self.batches.append((engine, [asked.data for asked in batch]))
        self.begun.release()
        assert self.go.wait(10)
        time.sleep(self.seconds * len(batch))
        yield [(asked, ValueError("bad") if asked.data == b"bad" else asked.data.decode()) for asked in batch]


@pytest.fixture
def crew() -> Crew:
    return Crew()


def run(crew: Crew, script: Callable[[Queue[str]], Any], threads: int = 1) -> Any:
    async def main() -> Any:
        queue: Queue[str] = Queue(crew, threads)
        try:
            return await script(queue)
        finally:
            crew.go.set()
            queue.close()

    return asyncio.run(main())


def ask(queue: Queue[str], engine: Any, *names: str) -> list[asyncio.Future[str]]:
    return [queue.ask(engine, name.encode(), str, time.monotonic() + 10) for name in names]


async def written_down(queue: Queue[str]) -> None:
    """Wait until nothing is owed: a thread answers first, and measures after."""
    await asyncio.to_thread(wait_until, lambda: abs(queue.owed) < 1e-9, what="nothing to be owed")


async def begun(crew: Crew, count: int = 1) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(crew.begun.acquire, timeout=10)


def test_one_that_comes_alone_is_begun_at_once(crew: Crew) -> None:
    async def script(queue: Queue[str]) -> None:
        crew.go.set()
        assert await asyncio.gather(*ask(queue, Model(), "a")) == ["a"]
        await written_down(queue)

    run(crew, script)
    assert [names for _, names in crew.batches] == [[b"a"]]


def test_what_waits_meanwhile_is_taken_together_by_engine_and_in_order(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "BATCH_SECONDS", 1e9)
    one, two = Model(), Model()

    async def script(queue: Queue[str]) -> list[str]:
        first = ask(queue, one, "a")
        await begun(crew)
        rest = ask(queue, one, "b") + ask(queue, two, "c") + ask(queue, one, "d")
        crew.go.set()
        return await asyncio.gather(*first, *rest)

    assert run(crew, script) == ["a", "b", "c", "d"]
    assert crew.batches == [(one, [b"a"]), (one, [b"b", b"d"]), (two, [b"c"])]


def test_a_batch_is_never_larger_than_the_bound(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "BATCH_SECONDS", 1e9)
    model = Model()

    async def script(queue: Queue[str]) -> None:
        first = ask(queue, model, "a")
        await begun(crew)
        rest = ask(queue, model, *map(str, range(2 * MAX_BATCH + 1)))
        crew.go.set()
        await asyncio.gather(*first, *rest)

    run(crew, script)
    assert [len(names) for _, names in crew.batches] == [1, MAX_BATCH, MAX_BATCH, 1]


def test_a_slow_model_is_measured_and_gets_small_batches(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "BATCH_SECONDS", 0.04)
    model = Model()
    crew.seconds = 0.015
    crew.go.set()

    async def script(queue: Queue[str]) -> None:
        await asyncio.gather(*ask(queue, model, "a"))
        await written_down(queue)
        await asyncio.gather(*ask(queue, model, *"bcdefgh"))

    run(crew, script)
    assert max(len(names) for _, names in crew.batches) <= 2


def test_one_batch_that_took_very_long_does_not_change_the_pace_much(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    crew.go.set()

    async def script(queue: Queue[str]) -> None:
        for _ in range(3):
            await asyncio.gather(*ask(queue, model, "a"))
        await written_down(queue)
        before = queue._pace[model]  # type: ignore[index]
        crew.seconds = 0.3  # as if the process had been stopped meanwhile
        await asyncio.gather(*ask(queue, model, "b"))
        await written_down(queue)
        assert before < queue._pace[model] < 1.5 * before  # type: ignore[index]

    run(crew, script)


def test_idle_threads_share_what_waits(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "BATCH_SECONDS", 1e9)
    model = Model()

    async def script(queue: Queue[str]) -> None:
        with queue._condition:  # both threads find four at once
            asked = ask(queue, model, "a", "b", "c", "d")
        await begun(crew, 2)
        crew.go.set()
        await asyncio.gather(*asked)

    run(crew, script, threads=2)
    assert max(len(names) for _, names in crew.batches) < 4


def test_an_error_reaches_the_one_whose_it_is(crew: Crew) -> None:
    crew.go.set()

    async def script(queue: Queue[str]) -> list[Any]:
        return await asyncio.gather(*ask(queue, Model(), "good", "bad", "fine"), return_exceptions=True)

    good, bad, fine = run(crew, script)
    assert (good, str(bad), fine) == ("good", "bad", "fine")


def test_who_has_given_up_is_passed_over(crew: Crew) -> None:
    model = Model()

    async def script(queue: Queue[str]) -> str:
        gone, stays = ask(queue, model, "gone", "stays")
        gone.cancel()
        crew.go.set()
        return await stays

    assert run(crew, script) == "stays"


def test_the_wait_is_told_from_what_is_owed(crew: Crew) -> None:
    model = Model()

    async def script(queue: Queue[str]) -> None:
        asked = ask(queue, model, "a")
        await begun(crew)
        asked += ask(queue, model, *"bcd")
        assert queue.wait_seconds == pytest.approx(4 * queueing._FIRST_GUESS_SECONDS)
        crew.go.set()
        await asyncio.gather(*asked)

    run(crew, script)


def test_closing_drops_what_waits_and_ends_the_threads(crew: Crew) -> None:
    model = Model()

    async def script(queue: Queue[str]) -> tuple[list[bool], str]:
        first = ask(queue, model, "a")[0]
        await begun(crew)
        rest = ask(queue, model, "b", "c")
        queue.close()
        crew.go.set()
        return [future.cancelled() for future in rest], await first

    before = threading.active_count()
    assert run(crew, script) == ([True, True], "a"), "what has begun ends"
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_first_sound_that_finds_everything_cold_makes_no_queue_look_endless(crew: Crew) -> None:
    crew.seconds = 0.5

    async def script(queue: Queue[str]) -> float:
        crew.go.set()
        engine = Model()
        await ask(queue, engine, "cold")[0]
        await written_down(queue)
        crew.go.clear()
        ask(queue, engine, *map(str, range(64)))
        return queue.wait_seconds

    assert run(crew, script, threads=2) < 1.0
