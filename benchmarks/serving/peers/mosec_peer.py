"""Mosec: HTTP in Rust, predictions in processes of their own; the body is the file itself.

`default` is one worker without batches; the others have a worker a core and batches (append_worker's num, max_batch_size and
max_wait_time: https://mosecorg.github.io/mosec/reference/interface.html).
"""

import os
import sys

from common import BATCH, CORES, Answer, export, model, options
from mosec import Server, Worker

_WAIT_MILLISECONDS = 2


class One(Worker):
    """A request at a time."""

    def __init__(self) -> None:
        """Load before the first request."""
        super().__init__()
        model()

    def deserialize(self, data: bytes) -> bytes:
        """Keep the body as it is."""
        return data

    def forward(self, data: bytes) -> Answer:
        """Hear what is said; the default serializer writes JSON."""
        return model().batch([data])[0]


class Many(One):
    """What waits, together."""

    def forward(self, data: list[bytes]) -> list[Answer]:
        """Hear what is said."""
        return model().batch(data)


def main() -> None:
    """Serve until killed."""
    chosen = options("default", "best", "onnx", "engine", "noop")
    export(chosen)
    # Mosec parses the command line itself.
    sys.argv = [
        sys.argv[0],
        "--port",
        str(chosen.port),
        "--address",
        "127.0.0.1",
        "--log-level",
        "warning",
        "--path",
        f"mosec-{os.getpid()}",
    ]
    server = Server()
    if chosen.variant == "default":
        server.append_worker(One)
    else:
        server.append_worker(Many, num=CORES, max_batch_size=BATCH, max_wait_time=_WAIT_MILLISECONDS)
    server.run()


if __name__ == "__main__":
    main()
