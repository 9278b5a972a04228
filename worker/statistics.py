"""How a dataset's items are spread: over lengths and over speakers. Counted from items.db when it is asked for, in some milliseconds."""

import math
from pathlib import Path
from typing import Any

from worker.datasets import ready_blob
from worker.items import ITEMS_FILE, opened
from worker.storage import get_storage

_BARS = 20
MOST_GROUPS = 200


def statistics_of(dataset_id: str) -> dict[str, Any]:
    """Return lengths and groups as JSON. Raises NotFoundError, GoneError, ConflictError (dataset_not_ready)."""
    path = get_storage().fetch_file(f"{ready_blob(dataset_id)}/{ITEMS_FILE}")
    return {"object": "statistics", "dataset": dataset_id, "durations": _durations(path), "groups": _groups(path)}


def _durations(path: Path) -> dict[str, Any] | None:
    """Return shortest, median and longest in seconds, and how many items lie between equally distant edges; None for pictures."""
    with opened(path) as connection:
        query = "SELECT duration FROM items WHERE position IS NOT NULL AND duration IS NOT NULL ORDER BY duration"
        lengths = [seconds for (seconds,) in connection.execute(query)]
    if not lengths:
        return None
    width = lengths[-1] / _BARS
    counts = [0] * _BARS
    for seconds in lengths:
        counts[min(_BARS - 1, math.floor(seconds / width))] += 1
    edges = [round(width * bar, 6) for bar in range(_BARS + 1)]
    return {"shortest": lengths[0], "median": lengths[len(lengths) // 2], "longest": lengths[-1], "edges": edges, "counts": counts}


def _groups(path: Path) -> list[dict[str, Any]]:
    """Return the groups with most items first, at most MOST_GROUPS."""
    query = (
        "SELECT speaker, split, COUNT(*), SUM(duration) FROM items WHERE position IS NOT NULL AND speaker IS NOT NULL "
        "GROUP BY speaker, split ORDER BY speaker, split"
    )
    found: dict[str, dict[str, Any]] = {}
    with opened(path) as connection:
        for group, split, items, seconds in connection.execute(query):
            row = found.setdefault(group, {"group": group, "items": 0, "splits": {}, "duration_seconds": None})
            row["items"] += items
            row["splits"][split] = items
            row["duration_seconds"] = seconds if row["duration_seconds"] is None else row["duration_seconds"] + seconds
    return sorted(found.values(), key=lambda row: (-row["items"], row["group"]))[:MOST_GROUPS]
