"""The floor under every Python server here: uvicorn, no framework, the body read and 200 bytes answered."""

import os

import uvicorn
from common import CORES, options

_ANSWER = b'{"top_k":[' + b" " * 189 + b"]}"
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


async def app(scope, receive, send) -> None:  # noqa: ANN001 - ASGI's three
    """Read everything, answer with the same bytes each time."""
    if scope["type"] == "lifespan":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


def main() -> None:
    """Serve until killed; as many processes as the service has."""
    chosen = options("noop")
    workers = int(os.environ.get("PEER_PROCESSES", str(CORES)))
    uvicorn.run("bare_asgi:app", port=chosen.port, workers=workers, access_log=False, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
