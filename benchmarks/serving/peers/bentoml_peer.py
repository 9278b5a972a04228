"""BentoML. `default` is a service as its documentation begins; the others have a worker a core and adaptive batches.

Settings: https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html (batchable, max_batch_size, max_latency_ms) and
…/build-with-bentoml/parallelize-requests.html (workers). The latency bound is above a batch's own time, or BentoML answers 503.
"""

import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from common import BATCH, CORES, Answer, export, exported, model, options

_LATENCY_MILLISECONDS = 1000


class _One:
    """A request at a time."""

    def __init__(self) -> None:
        """Load in the worker's process."""
        model()

    @bentoml.api
    def predict(self, file: Annotated[Path, ContentType("audio/wav")]) -> Answer:
        """Hear what is said."""
        return model().batch([file.read_bytes()])[0]


class _Many:
    """What waits, together."""

    def __init__(self) -> None:
        """Load in the worker's process."""
        model()

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=_LATENCY_MILLISECONDS)
    def predict(self, file: list[Annotated[Path, ContentType("audio/wav")]]) -> list[Answer]:
        """Hear what is said."""
        return model().batch([path.read_bytes() for path in file])


def main() -> None:
    """Become BentoML's own command."""
    chosen = options("default", "best", "engine", "noop")
    export(chosen)
    command = ["python", "-m", "bentoml", "serve", "bentoml_peer:Peer", "--port", str(chosen.port), "--host", "127.0.0.1"]
    os.chdir(Path(__file__).parent)
    os.execv(os.environ["PEER_PYTHON"], command)


if __name__ == "__main__":
    main()
elif exported().variant == "default":
    Peer = bentoml.service(_One, name="peer")
else:
    Peer = bentoml.service(_Many, name="peer", workers=CORES)
