"""One API process: uvicorn with the application, on a socket of its own or on one that `serve` holds for several."""

import gc
import socket
import sys
from typing import Any, cast

import uvicorn

from app.exposure import check_exposure
from app.listening import MAX_MESSAGE_BYTES
from app.protocol import Protocol, web_socket
from worker.logs import configure_logging
from worker.settings import Settings

# A thread that makes predictions asks for the interpreter a dozen times a sound. While the event loop is busy refusing, each time would
# cost the usual 5 ms: at eight times the load that can be served, ten times as many predictions are made with this.
_SWITCH_SECONDS = 0.0005
_DRAIN_SECONDS = 5  # open requests may finish; event streams never do and are cut, their clients resume


def run_api(settings: Settings, *, descriptor: int | None = None) -> None:
    """Serve HTTP until SIGTERM or SIGINT. `descriptor` is an inherited listening socket; without it host and port of `settings`.

    The garbage collector, which callers let rest while all of this is imported, works again once it has started.

    Raises ConfigError when the address needs a key and there is none.
    """
    check_exposure(settings)
    sys.setswitchinterval(_SWITCH_SECONDS)
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
        http=Protocol,
        ws=cast("Any", f"{web_socket.__module__}:{web_socket.__name__}"),  # any class that the server can import, by its name
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound does not shrink, and each connection would hold memory for it
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    sockets = [socket.socket(fileno=descriptor)] if descriptor is not None else None
    _Server(config).run(sockets=sockets)


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and take what is there by then out of the garbage collector's rounds: they took a seventh of a busy process."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.enable()
