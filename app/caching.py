"""What a browser has already is not sent again: entity tags (RFC 9110, 8.8.3 and 13.1.2)."""

from fastapi import Request


def knows(request: Request, etag: str) -> bool:
    """Whether the caller holds the version that `etag` (with its quotes) names."""
    return etag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(","))
