"""One API process: uvicorn with the application, on a socket of its own or on one that `serve` holds for several.

`python -m app.server --fd N` is what `serve` starts; it skips the command line's imports, which the service does not need.
"""

import argparse
import socket

import uvicorn

from app.gate import check_exposure
from app.listening import MAX_MESSAGE_BYTES
from worker.logs import configure_logging
from worker.settings import Settings, get_settings

_DRAIN_SECONDS = 5  # open requests may finish; event streams never do and are cut, their clients resume


def run_api(settings: Settings, *, descriptor: int | None = None) -> None:
    """Serve HTTP until SIGTERM or SIGINT. `descriptor` is an inherited listening socket; without it host and port of `settings`.

    Raises ConfigError when the address needs a key and there is none.
    """
    check_exposure(settings)
    configure_logging(settings.log_level)
    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # the application writes one structured line a request
        server_header=False,
        lifespan="on",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound does not shrink, and each connection would hold memory for it
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    sockets = [socket.socket(fileno=descriptor)] if descriptor is not None else None
    uvicorn.Server(config).run(sockets=sockets)


def main() -> None:
    """Entry of `python -m app.server`."""
    parser = argparse.ArgumentParser(description="Run one API process.")
    parser.add_argument("--fd", type=int, default=None, help="an inherited listening socket")
    run_api(get_settings(), descriptor=parser.parse_args().fd)


if __name__ == "__main__":
    main()
