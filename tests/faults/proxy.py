"""A TCP proxy that can go deaf: it keeps connections open, takes what comes, and passes nothing on, as a half-open connection does."""

import contextlib
import socket
import threading
from typing import Self

_PIECE = 65536


class Proxy:
    """Listens on a free port of this machine and passes bytes both ways until told not to."""

    def __init__(self, port: int) -> None:
        """`port` is where the real server listens, on this machine too."""
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._deaf: set[socket.socket] = set()
        self._word: bytes | None = None
        self._closed = False
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        for pair in self._pairs:
            for end in pair:
                _close(end)
        _close(self._listener)

    def deafen(self) -> int:
        """Swallow from now on what comes through the connections there are, both ways; new ones work. Return how many they are."""
        for pair in self._pairs:
            self._deaf.update(pair)
        return len(self._pairs)

    def deafen_at(self, word: bytes) -> None:
        """Go deaf, once, when `word` comes through, which is swallowed with all that follows."""
        self._word = word

    @property
    def waits(self) -> bool:
        """Whether the word has not come yet."""
        return self._word is not None

    def heal(self) -> None:
        """Pass bytes on again. What was swallowed stays lost."""
        self._deaf.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                if self._word is not None and self._word in piece:
                    self._word = None
                    self.deafen()
                if source not in self._deaf:
                    sink.sendall(piece)
            if source not in self._deaf:  # a goodbye does not pass either
                sink.shutdown(socket.SHUT_WR)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
