"""Lists as the API gives them, and times as it writes them."""

import datetime as dt
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Page:
    """One page of JSON-able rows, in the list's order."""

    data: list[dict[str, Any]]
    has_more: bool


def rfc3339(seconds: float | None) -> str | None:
    """Return seconds since 1970 as RFC 3339 in UTC with milliseconds, None for None."""
    if seconds is None:
        return None
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
