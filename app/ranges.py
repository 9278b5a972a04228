"""A part of an answer where one is asked for (RFC 9110, 14): Safari plays no sound of a server that sends it only whole."""

import re

from fastapi import Request, Response

from app.errors import RequestError

# One range. Positions of more digits than any file has bytes are left to the whole answer, as every range may be.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


def part_of(asked: str, size: int) -> range | None:
    """Return the bytes that a `Range` header asks for of `size` bytes; empty: it has none of them; None: it gets them all.

    All go to those who ask for several ranges at once, in another unit or in another form.
    """
    found = _RANGE.fullmatch(asked.strip())
    first, last = found.groups() if found else ("", "")
    if first and last and int(first) > int(last):
        return None
    if first:
        return range(int(first), min(int(last) + 1 if last else size, size))
    if last:
        return range(max(size - int(last), 0), size)
    return None


def ranged(request: Request, content: bytes, *, kind: str, etag: str, headers: dict[str, str]) -> Response:
    """Return `content`, or the part of it that is asked for, as an answer. `etag` stands with its quotes.

    `If-Range` with another version, or with a date, which is told of nothing here, asks for all of it. Raises RequestError
    (range_not_satisfiable).
    """
    headers = headers | {"ETag": etag, "Accept-Ranges": "bytes"}
    part = part_of(request.headers.get("range", ""), len(content))
    if part is None or request.headers.get("if-range", etag) != etag:
        return Response(content, media_type=kind, headers=headers)
    if not part:
        raise RequestError(
            f"there are {len(content)} bytes, and none in that range", code="range_not_satisfiable",
            headers={"Content-Range": f"bytes */{len(content)}"},
        )  # fmt: skip
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(content)}"
    return Response(content[part.start : part.stop], 206, media_type=kind, headers=headers)
