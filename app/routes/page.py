"""The people's page: its files as they lie in app/static, under a policy that lets nothing in from elsewhere."""

import functools
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from app.caching import knows
from worker.errors import NotFoundError

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).parent.parent / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
}
# Labels and file names are strangers' words: even one that became markup could load nothing, run nothing and send nothing away.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Asked for again at each visit and answered with 304: files have no version in their addresses, so that none is ever stale.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_LEVEL = 9  # packed once a process


@dataclass(frozen=True)
class StaticFile:
    """One file of the page, with the answer's parts that never change."""

    content: bytes
    packed: bytes  # the same by gzip
    media_type: str
    etag: str  # without quotes


@router.api_route("/", methods=["GET", "HEAD"])
async def show_page(request: Request) -> Response:
    """Show the page; lead a client that takes no HTML to the documentation."""
    if not accepts_html(request.headers.get("accept", "*/*")):
        return RedirectResponse("/docs", headers={"Vary": "Accept"})
    return _answer(request, _files()["index.html"])


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
async def get_static(request: Request, path: str) -> Response:
    """Give one file of the page. Raises NotFoundError."""
    file = _files().get(path)  # a name looked up in a table reaches no other file, whatever dots it has
    if file is None:
        raise NotFoundError(f"the page has no file {quote(path[:80])!r}", code="route_not_found")
    return _answer(request, file)


def accepts_html(accept: str) -> bool:
    """Whether an Accept header lets HTML in; the most particular range decides (RFC 9110, 12.5.1)."""
    weights = {}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights[kind] = next((piece.removeprefix("q=") for piece in parameters if piece.startswith("q=")), "1")
    found = next((weights[kind] for kind in ("text/html", "text/*", "*/*") if kind in weights), "0")
    return found.strip("0.") != ""


@functools.cache
def _files() -> dict[str, StaticFile]:
    """Return path → file; read once, as they are a few and small."""
    paths = sorted(path for path in FOLDER.rglob("*") if path.suffix in MEDIA_TYPES)
    return {path.relative_to(FOLDER).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    return StaticFile(
        content, gzip.compress(content, _LEVEL, mtime=0), MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:32]
    )  # fmt: skip


def _answer(request: Request, file: StaticFile) -> Response:
    pack = "gzip" in request.headers.get("accept-encoding", "") and len(file.packed) < len(file.content)
    etag = f'"{file.etag}-gzip"' if pack else f'"{file.etag}"'
    headers = HEADERS | {"ETag": etag} | ({"Content-Encoding": "gzip"} if pack else {})
    if file.media_type.startswith("text/html"):
        headers["Vary"] = "Accept, Accept-Encoding"
    if knows(request, etag):
        return Response(status_code=304, headers=headers)
    body = file.packed if pack else file.content
    return Response(body, headers=headers, media_type=file.media_type)
