"""Decoders in processes of their own, in order and under limits: a file that crashes a decoder costs that file and nothing else.

Not concurrent.futures: there one crash breaks the pool, and what comes back is unpickled, which a taken-over decoder could use. Here a
message is a JSON header and raw bytes. Each process has at most one batch under way and decodes it whole before it answers, so neither
side ever waits for the other to read.
"""

import faulthandler
import json
import multiprocessing
import os
import resource
import signal
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from models.dataset import DTYPES
from worker.archive_rules import Content, Member
from worker.decoding import Decoded
from worker.processes import die_with_parent

Decode = Callable[[bytes], Decoded]
MAX_PROCESSES = 8  # beyond that the one process that reads the archive is what takes the time
BATCH_FILES = 64
BATCH_BYTES = 2**18  # of the files as they come; decoded they can be fifty times as much
DECODE_SECONDS = 30  # of clock time for one file
MEMORY_BYTES = 2 * 2**30  # that decoding may take beyond what the process begins with
_CONTEXT = multiprocessing.get_context("fork")  # a new process in milliseconds, with the libraries loaded
_LENGTH = struct.Struct("<I")


class DecoderPool:
    """Decodes files one after another in `processes` processes. Use as a context manager: at its end the processes are gone."""

    def __init__(self, decode: Decode, processes: int) -> None:
        """Start the processes. Call while this process has one thread: it forks."""
        self._workers = [_Worker(decode) for _ in range(processes)]

    def __enter__(self) -> Self:
        """Return the pool itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the processes, whatever they are doing."""
        for worker in self._workers:
            worker.end()

    def decode(self, contents: Iterable[Content]) -> Iterator[tuple[Member, Decoded]]:
        """Yield what came of each file, in order. Files that have a reason already are passed on undecoded."""
        idle = deque(self._workers)
        busy: deque[tuple[_Worker, list[Content]]] = deque()
        for batch in _batches(contents):
            if not idle:
                worker, sent = busy.popleft()
                answers = worker.receive(sent)
                worker.send(batch)  # before the answers are used: it decodes while they are written
                busy.append((worker, batch))
                yield from answers
            else:
                idle[0].send(batch)
                busy.append((idle.popleft(), batch))
        for worker, sent in busy:
            yield from worker.receive(sent)


class _Worker:
    """One process, replaced when it dies."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._start()

    def send(self, batch: list[Content]) -> None:
        """Hand over a batch; an answer to the one before must have been received."""
        files = [content.data for content in batch if content.reason is None]
        message = b"".join([_LENGTH.pack(len(files)), *(_LENGTH.pack(len(data)) for data in files), *files])
        try:
            self._pipe.send_bytes(message)
        except (BrokenPipeError, ConnectionResetError):  # it was killed between two batches, so none of these files is to blame
            self._restart()
            self._pipe.send_bytes(message)

    def receive(self, batch: list[Content]) -> list[tuple[Member, Decoded]]:
        """Return the answers to `batch`, in order. Should the process have died, its files are tried again one by one."""
        try:
            answers = iter(_unpack(self._pipe.recv_bytes()))
        except (EOFError, ConnectionResetError):
            reason = self._restart()
            answers = iter([self._retry(content, reason, alone=len(batch) == 1) for content in batch if content.reason is None])
        return [(content.member, next(answers) if content.reason is None else Decoded(content.reason)) for content in batch]

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _retry(self, content: Content, reason: str, *, alone: bool) -> Decoded:
        if alone:
            return Decoded(reason)
        self.send([content])
        return self.receive([content])[0][1]

    def _start(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, self._decode, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()  # so that its death is the end of our stream

    def _restart(self) -> str:
        """Replace a dead process; return the reason code for what killed it."""
        self._pipe.close()
        self._process.join()
        code = self._process.exitcode
        self._start()
        return "decoder_timeout" if code == -signal.SIGALRM else "decoder_crashed"


def _batches(contents: Iterable[Content]) -> Iterator[list[Content]]:
    batch: list[Content] = []
    size = 0
    for content in contents:
        batch.append(content)
        size += len(content.data)
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _serve(pipe: Connection, decode: Decode, parent: int) -> None:
    """The process: a batch in, its answers out, until the parent is gone."""
    die_with_parent(parent)
    _confine(pipe.fileno())
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        answers = []
        for data in _files_of(message):
            signal.alarm(DECODE_SECONDS)
            answers.append(decode(data))
        signal.alarm(0)
        pipe.send_bytes(_pack(answers))


def _confine(pipe: int) -> None:
    """Bound what a file can make the decoders take; signals do again what they do by themselves.

    Of the open files only `pipe` and the standard ones stay: the report pipe held open here would outlive the ingester.
    """
    os.closerange(3, pipe)
    os.closerange(pipe + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # answers go through the pipe; into a file nobody here has to write
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere the limit is not kept anyway
        begun = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (begun + MEMORY_BYTES, begun + MEMORY_BYTES))


def _files_of(message: bytes) -> Iterator[bytes]:
    (count,) = _LENGTH.unpack_from(message)
    at = _LENGTH.size * (1 + count)
    for index in range(count):
        (length,) = _LENGTH.unpack_from(message, _LENGTH.size * (1 + index))
        yield message[at : at + length]
        at += length


def _pack(answers: list[Decoded]) -> bytes:
    head: list[dict[str, Any]] = []
    for answer in answers:
        facts = {name: getattr(answer, name) for name in ("reason", "remarks", "duration", "width", "height", "grey")}
        shape = None if answer.item is None else answer.item.shape
        head.append({**facts, "shape": shape, "content": answer.content.hex()})
    encoded = json.dumps(head).encode()
    bodies = (np.ascontiguousarray(answer.item).data for answer in answers if answer.item is not None)
    return b"".join([_LENGTH.pack(len(encoded)), encoded, *bodies])


def _unpack(message: bytes) -> list[Decoded]:
    (length,) = _LENGTH.unpack_from(message)
    at = _LENGTH.size + length
    answers = []
    for facts in json.loads(message[_LENGTH.size : at]):
        shape, content, remarks = facts.pop("shape"), bytes.fromhex(facts.pop("content")), tuple(facts.pop("remarks"))
        item = None
        if shape is not None:
            count = int(np.prod(shape))
            item = np.frombuffer(message, DTYPES["audio" if len(shape) == 1 else "image"], count, at).reshape(shape)
            at += item.nbytes
        answers.append(Decoded(item=item, content=content, remarks=remarks, **facts))
    return answers
