"""Predictions: engines by name, a queue before its threads, and admission that says no early.

What waits is bounded by time, not by count: as many as will be done within `predict_wait_seconds` at the measured speed.
"""

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator

from app.engines import Engines
from app.errors import status_of
from app.hearing import Answer, Options, answer_of, hear, sound_limits
from app.metrics import Metrics
from app.queueing import Queue
from models.engine import Engine
from models.errors import SynesthesiaError
from worker.aliases import DEFAULT_ALIAS
from worker.errors import OverloadedError
from worker.owners import EVERYTHING, View
from worker.processes import processors
from worker.settings import MIB, Settings

MAX_WAITING_BYTES = 256 * MIB  # of sounds in memory at once


class Predictors:
    """All that `POST /predict` needs in one process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Threads start with the first prediction, engines load with the first sound for them."""
        self._metrics = metrics
        threads = settings.predict_threads or max(1, processors() // settings.api_processes)
        self._queue: Queue[Answer] = Queue(functools.partial(hear, sound_limits(settings)), threads)
        self._wait_seconds = settings.predict_wait_seconds
        self._engines = Engines(settings, metrics)
        self._waiting_bytes = 0
        self.begun = 0
        """predictions that the server has begun to take in, and not answered"""

    @property
    def loaded(self) -> int:
        """How many engines are held ready."""
        return len(self._engines)

    @property
    def wait_seconds(self) -> float:
        """How long a sound that comes now is expected to wait."""
        return self._queue.wait_seconds

    @property
    def engines(self) -> Engines:
        """The engines, by name."""
        return self._engines

    def forget(self) -> None:
        """Look names up again: an alias was moved, or a model deleted."""
        self._engines.forget()

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._engines.close()
        self._queue.close()

    @contextlib.contextmanager
    def memory(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes bytes for a sound, until the block ends. It raises OverloadedError where all take too much."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if not self.hold(size):
                raise OverloadedError("too many sounds are waiting", retry_after=1)
            held += size

        try:
            yield take
        finally:
            self.free(held)

    @contextlib.asynccontextmanager
    async def collect(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Read a sound into memory, within what all of them may take together. Raises OverloadedError, before it reads where it can."""
        self.admit()
        pieces: list[bytes] = []
        with self.memory() as take:
            async for piece in body:
                take(len(piece))
                pieces.append(piece)
            yield pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def refusal(self) -> OverloadedError | None:
        """Return what a sound that comes now is told where it would wait too long."""
        return _refusal(self._queue.wait_seconds, self._wait_seconds)

    def refusal_at_the_door(self) -> OverloadedError | None:
        """As `refusal`, for the server itself, which may take in hundreds of requests before the first of them comes to the queue."""
        return _refusal(max(self._queue.wait_seconds, self.begun * self._queue.pace / self._queue.threads), self._wait_seconds)

    def count_early_refusal(self, error: OverloadedError) -> None:
        """Count an answer that the server itself gave, before there was a request."""
        self._metrics.observe_request("/predict", "POST", status_of(error), 0.0)
        self._metrics.count_refusal(error.code)
        self._refused(error)

    def admit(self) -> None:
        """Raise OverloadedError where a sound that comes now would wait too long: before its body is read."""
        error = self.refusal()
        if error is not None:
            raise self._refused(error)

    def hold(self, size: int) -> bool:
        """Count the bytes of a sound that comes, until `free`, where they fit; say whether they did."""
        fits = self._waiting_bytes + size <= MAX_WAITING_BYTES
        if fits:
            self._waiting_bytes += size
        return fits

    def free(self, size: int) -> None:
        """End what `hold` began."""
        self._waiting_bytes -= size

    def begin(
        self, name: str | None, data: bytes, options: Options, done: Callable[[Answer | BaseException], None], view: View = EVERYTHING
    ) -> bool:
        """Do as `predict` does, without a task and in the view of its caller: `done` gets answer or exception in the running loop.

        Returns False where the engine is not at hand; then nothing has begun.
        """
        served = self._engines.peek(name or DEFAULT_ALIAS, view)
        if served is None:
            return False
        model_id, engine = served
        finish, until = answer_of(model_id, engine, options), time.monotonic() + self._wait_seconds
        self._queue.put(engine, data, finish, until, done, asyncio.get_running_loop())
        return True

    def count(self, outcome: Answer | SynesthesiaError) -> None:
        """Count what came of a prediction that `begin` began."""
        if isinstance(outcome, SynesthesiaError):
            self._metrics.count_refusal(outcome.code)
            self._refused(outcome)
        else:
            self._metrics.observe_prediction("answered", outcome["timings_ms"]["total"] / 1000)

    async def predict(self, name: str | None, data: bytes, options: Options) -> Answer:
        """Return what the contract (openapi.json) promises for a sound.

        Raises OverloadedError, NotFoundError, GoneError, InputError, DependencyError.
        """
        self.admit()
        name = name or DEFAULT_ALIAS
        try:
            served = self._engines.peek(name)
            if served is None:  # in a thread of its own: a load must not hold up predictions with other models
                served = await asyncio.to_thread(self._engines.get, name)
            model_id, engine = served
            until = time.monotonic() + self._wait_seconds
            answer = await self._queue.ask(engine, data, answer_of(model_id, engine, options), until)
        except SynesthesiaError as error:
            raise self._refused(error) from None
        self.count(answer)
        return answer

    def _refused(self, error: SynesthesiaError) -> SynesthesiaError:
        self._metrics.observe_prediction(error.code, 0.0)
        return error

    def engine(self, name: str) -> tuple[str, Engine]:
        """Return id and engine of the speech model that `name` stands for; blocks while it loads.

        Raises NotFoundError, GoneError, InputError for a model of pictures, DependencyError where its files can't be used.
        """
        return self._engines.get(name)


def _refusal(expected: float, bearable: float) -> OverloadedError | None:
    if expected <= bearable:
        return None
    return OverloadedError("more predictions wait than can be made in time", retry_after=math.ceil(max(expected, 1.0)))
