"""LitServe. `default` as its README shows it; the others with batches and a worker a core.

Settings: https://lightning.ai/docs/litserve/features/batching, …/api-reference/litserver (workers_per_device, fast_queue) and
…/litserver#num_api_servers: as many HTTP servers as workers, which is its own recommendation.
"""

import litserve
from common import BATCH, CORES, Answer, export, model, options

# Long enough to fill a batch at the load of the benchmark, short enough to be nothing beside a batch's own time.
_WAIT_SECONDS = 0.002


class One(litserve.LitAPI):
    """A request at a time."""

    def setup(self, device: str) -> None:
        """Load in the worker's process."""
        del device
        model()

    def decode_request(self, request) -> bytes:  # noqa: ANN001 - without an annotation LitServe hands over the form
        """Return the file's bytes."""
        return request["file"].file.read()

    def predict(self, inputs: bytes) -> Answer:
        """Hear what is said."""
        return model().batch([inputs])[0]

    def encode_response(self, output: Answer) -> Answer:
        """Return it as it is: LitServe writes JSON."""
        return output


class Many(One):
    """What waits, together."""

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Keep the files as they are: they are decoded with the prediction."""
        return inputs

    def predict(self, inputs: list[bytes]) -> list[Answer]:
        """Hear what is said."""
        return model().batch(inputs)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Return an answer for each."""
        return output


def main() -> None:
    """Serve until killed."""
    chosen = options("default", "best", "engine", "noop")
    export(chosen)
    if chosen.variant == "default":
        litserve.LitServer(One(), accelerator="cpu").run(port=chosen.port, generate_client_file=False, log_level="warning")
        return
    api = Many(max_batch_size=BATCH, batch_timeout=_WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=CORES, fast_queue=True)
    server.run(port=chosen.port, generate_client_file=False, log_level="warning", num_api_servers=CORES)


if __name__ == "__main__":
    main()
