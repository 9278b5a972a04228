"""Who is compared: frameworks with their variants, how each is asked, and the same frameworks without a model."""

import os
from dataclasses import dataclass

CORES = len(os.sched_getaffinity(0))
_BOUNDARY = "b0b1b2b3b4b5b6b7"


@dataclass(frozen=True)
class Server:
    """One row of the comparison."""

    name: str
    framework: str
    """ours, or the file in peers/ without _peer.py"""
    variant: str
    multipart: bool = False
    """The sound comes as a form's file; otherwise it is the body itself, which is cheaper to read where it is supported."""
    path: str = "/predict"
    health: str = "/health"
    processes: int = CORES
    """API processes of ours; peers decide by their variant"""

    @property
    def ours(self) -> bool:
        """Whether it is this repository's service."""
        return self.framework == "ours"

    @property
    def shares_graph(self) -> bool:
        """Whether a peer runs the graph that our export wrote, by our engine or by ONNX Runtime alone, and not its own torch."""
        return self.variant in ("onnx", "engine")

    def request(self, data: bytes) -> bytes:
        """Return the bytes of one request over HTTP/1.1."""
        kind, body = form(data) if self.multipart else ("audio/wav", data)
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def probe(self) -> bytes:
        """Return the bytes of one question after its health."""
        return f"GET {self.health} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


SERVERS = (
    Server("ours", "ours", "serve", health="/healthz"),
    Server("ours, multipart", "ours", "serve", multipart=True, health="/healthz"),
    Server("FastAPI + torch, as in tutorials", "fastapi", "default", multipart=True),
    Server("FastAPI + torch, tuned", "fastapi", "best", multipart=True),
    Server("FastAPI + ONNX Runtime, tuned", "fastapi", "onnx", multipart=True),
    Server("FastAPI + our engine", "fastapi", "engine", multipart=True),
    Server("LitServe, defaults", "litserve", "default", multipart=True),
    Server("LitServe, tuned", "litserve", "best", multipart=True),
    Server("LitServe + our engine", "litserve", "engine", multipart=True),
    Server("BentoML, defaults", "bentoml", "default", multipart=True, health="/livez"),
    Server("BentoML, tuned", "bentoml", "best", multipart=True, health="/livez"),
    Server("BentoML + our engine", "bentoml", "engine", multipart=True, health="/livez"),
    Server("mosec, defaults", "mosec", "default", path="/inference", health="/"),
    Server("mosec, tuned", "mosec", "best", path="/inference", health="/"),
    Server("mosec + ONNX Runtime, tuned", "mosec", "onnx", path="/inference", health="/"),
    Server("mosec + our engine", "mosec", "engine", path="/inference", health="/"),
    Server("Ray Serve, defaults", "ray", "default", health="/-/healthz"),
    Server("Ray Serve, tuned", "ray", "best", health="/-/healthz"),
    Server("Ray Serve + our engine", "ray", "engine", health="/-/healthz"),
)
NOOPS = (
    Server("bare ASGI on uvicorn", "bare_asgi", "noop"),
    Server("ours, no model", "ours", "serve", path="/predict?model=noop", health="/healthz"),
    Server("ours, no model, multipart", "ours", "serve", multipart=True, path="/predict?model=noop", health="/healthz"),
    Server("FastAPI UploadFile, no model", "fastapi", "noop", multipart=True),
    Server("LitServe, no model", "litserve", "noop", multipart=True),
    Server("BentoML, no model", "bentoml", "noop", multipart=True),
    Server("mosec, no model", "mosec", "noop", path="/inference"),
    Server("Ray Serve, no model", "ray", "noop"),
)


def form(data: bytes) -> tuple[str, bytes]:
    """Return content type and body of a form whose `file` is a sound."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return f"multipart/form-data; boundary={_BOUNDARY}", head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
