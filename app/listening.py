"""`WS /predict/stream`: how many streams one process hears, and what is said in one of them.

A stream is read only as fast as it is judged: what waits meanwhile stays in the server's and the system's bounded buffers, and a client
that sends faster than that is slowed. Sound is unpacked on the event loop, which takes microseconds a packet; models run in threads.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.errors import BodyTimeoutError, BodyTooLargeError, MalformedError
from app.jsonbody import validated
from app.metrics import Metrics
from app.predictors import Predictors
from app.schemas.stream import StreamMessage, StreamStart, StreamStop
from models.engine import Engine
from models.streaming_audio import INLETS, Inlet
from models.streaming_detector import Detection, StreamingDetector, Tuning
from worker.aliases import DEFAULT_ALIAS
from worker.errors import OverloadedError
from worker.processes import processors
from worker.settings import Settings

MAX_MESSAGE_BYTES = 65536  # of one message: two seconds of 16-bit sound at 16 kHz
IDLE_SECONDS = 30.0  # without a message; a client that has nothing to say keeps sending silence, or stops
MAX_BEHIND_SECONDS = 2.0  # a client is told that its sound is heard so late
REPORT_SECONDS = 1.0  # of sound between two messages that tell the position
_RETRY_SECONDS = 5
_PAUSE_SECONDS = 0.5  # without a message: the client paused, and its delay before is forgotten
_INLINE_BYTES = 4096  # larger messages are unpacked in a thread: Opus of this size takes a millisecond
log = structlog.get_logger(__name__)
T = TypeVar("T")


class Listeners:
    """The streams of one process."""

    def __init__(self, settings: Settings, predictors: Predictors, metrics: Metrics) -> None:
        """None is open; threads start with the first. One core is left to single predictions where there are several."""
        self.metrics = metrics
        self._predictors = predictors
        self._most = settings.max_streams
        self._open = 0
        self._pool = concurrent.futures.ThreadPoolExecutor(max(1, processors() - 1), thread_name_prefix="stream")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Hold a place for one stream. Raises OverloadedError where all are taken."""
        if self._open >= self._most:
            raise OverloadedError(f"{self._open} streams are open, no more are served by one process", retry_after=_RETRY_SECONDS)
        self._open += 1
        self.metrics.streams_open(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self.metrics.streams_open(self._open)

    async def engine(self, name: str | None) -> tuple[str, Engine]:
        """Return id and engine of the model that `name` stands for. Raises what `Predictors.engine` raises."""
        return await asyncio.to_thread(self._predictors.engine, name or DEFAULT_ALIAS)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Return what `work` returns, done in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)


class Conversation:
    """One accepted stream, from its first message to its end."""

    def __init__(self, socket: WebSocket, listeners: Listeners, model_id: str, engine: Engine) -> None:
        """The engine stays the same to the end, wherever an alias is moved meanwhile."""
        self._socket = socket
        self._listeners = listeners
        self._model_id = model_id
        self._engine = engine
        self._lag = Lag()
        self._sequence = 0
        self._reported = 0.0
        self._use(StreamStart())

    async def run(self) -> None:
        """Hear until the client stops. Raises WebSocketDisconnect where it is gone, SynesthesiaError for what it did wrong."""
        try:
            await self._converse()
        finally:
            log.info("stream", model=self._model_id, position=self._position, samples=self._inlet.taken, detections=self._sequence)

    async def _converse(self) -> None:
        await self._say("ready", model=self._model_id, labels=self._engine.labels, sample_rate=self._detector.sample_rate)
        said = await self._next()
        if isinstance(said, StreamStart):
            self._use(said)
            await self._say("started", **said.model_dump(include={"encoding", "sample_rate", "channels"}), position=self._position)
            said = await self._next()
        while isinstance(said, bytes):
            await self._hear(said)
            said = await self._next()
        if isinstance(said, StreamStart):
            raise MalformedError("a stream is started once, by its first message", code="state_conflict")
        await self._finish()

    def _use(self, start: StreamStart) -> None:
        tuning = Tuning(start.enter, start.leave, start.refractory_seconds)
        self._detector = StreamingDetector(self._engine, tuning)
        self._inlet: Inlet = INLETS[start.encoding](start.sample_rate, start.channels, self._detector.sample_rate)
        self._origin = self._reported = start.resume_from

    @property
    def _position(self) -> float:
        """Seconds on the client's clock of the sound that has come."""
        return round(self._origin + self._inlet.taken / self._inlet.rate, 6)

    async def _next(self) -> bytes | StreamStart | StreamStop:
        """Return the next message. Raises BodyTimeoutError, BodyTooLargeError, MalformedError, ValidationError, WebSocketDisconnect."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await self._socket.receive()
        except TimeoutError:
            raise BodyTimeoutError(f"nothing came for {IDLE_SECONDS:g} s", code="stream_idle", hint="send silence, or stop") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        self._lag.came(began, time.monotonic())
        data: bytes | None = message.get("bytes")
        content = data if data is not None else message["text"].encode()
        if len(content) > MAX_MESSAGE_BYTES:
            raise BodyTooLargeError(f"a message has at most {MAX_MESSAGE_BYTES} bytes", hint="send sound in smaller pieces")
        return content if data is not None else validated(StreamMessage, content).root

    async def _hear(self, data: bytes) -> None:
        unpack = self._inlet.feed
        samples = unpack(data) if len(data) <= _INLINE_BYTES else await self._listeners.run(unpack, data)
        if self._detector.fills(len(samples)):
            await self._tell(await self._listeners.run(self._detector.feed, samples))
        else:
            self._detector.feed(samples)
        position = self._position
        if position - self._reported >= REPORT_SECONDS:
            self._reported = position
            await self._say("position", position=position, samples=self._inlet.taken)
        behind = self._lag.heard(time.monotonic(), position)
        if behind is not None:
            await self._say("behind", seconds=round(behind, 3))

    async def _finish(self) -> None:
        position = self._position
        rest = await self._listeners.run(self._inlet.finish)
        await self._tell(await self._listeners.run(lambda: self._detector.feed(rest) + self._detector.finish()))
        await self._say("end", position=position, samples=self._inlet.taken, detections=self._sequence)

    async def _tell(self, detections: list[Detection]) -> None:
        for found in detections:
            times = {name: round(self._origin + getattr(found, name), 6) for name in ("start", "end", "position")}
            await self._say("detection", sequence=self._sequence, label=found.label, probability=round(found.probability, 6), **times)
            self._sequence += 1
            self._listeners.metrics.count_detection()

    async def _say(self, kind: str, **members: Any) -> None:
        await self._socket.send_text(json.dumps({"type": kind, **members}, ensure_ascii=False, separators=(",", ":")))


class Lag:
    """How much later than at best the sound is heard: a delay that grows while sound keeps coming is the service's or the network's."""

    def __init__(self) -> None:
        """Nothing was heard yet."""
        self._least: float | None = None
        self._told = False

    def came(self, asked: float, now: float) -> None:
        """Take the times, in seconds, at which a message was waited for and came."""
        if now - asked > _PAUSE_SECONDS:
            self._least = None

    def heard(self, now: float, position: float) -> float | None:
        """Take the time at which sound up to `position` was judged, both in seconds; return the delay where it has to be told, once."""
        delay = now - position
        self._least = delay if self._least is None else min(self._least, delay)
        behind = delay - self._least
        if behind <= MAX_BEHIND_SECONDS / 2:
            self._told = False
        if behind <= MAX_BEHIND_SECONDS or self._told:
            return None
        self._told = True
        return behind
