"""items.db: every file of a dataset and what became of it, in a small SQLite file inside the packed directory.

Written once at ingest, read page by page with filters; a page of 70,000 files costs a millisecond and no memory.
"""

import contextlib
import errno
import json
import sqlite3
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.config import Split
from models.errors import ConfigError
from worker.pages import Page

ITEMS_FILE = "items.db"
ItemStatus = Literal["accepted", "rejected", "suspect"]
_COLUMNS = (
    "file_name",
    "label",
    "split",
    "speaker",
    "status",
    "reasons",
    "duplicate_of",
    "duration",
    "width",
    "height",
    "position",
    "content",
)
_TABLE = """
CREATE TABLE items (id INTEGER PRIMARY KEY, file_name TEXT NOT NULL, label TEXT, split TEXT, speaker TEXT, status TEXT NOT NULL,
  reasons TEXT NOT NULL, duplicate_of TEXT, duration REAL, width INTEGER, height INTEGER, position INTEGER, content BLOB NOT NULL)
"""
# SQLite appends the id to each, so that a filter and the order are one walk through one index.
_INDEXES = ("CREATE INDEX by_status ON items (status)", "CREATE INDEX by_label ON items (label)", "CREATE INDEX by_split ON items (split)")
_PREFIX = "itm_"
LABEL_DOUBTED = "label_doubted"  # the reason of an item that a model takes for another label, with confidence
Doubts = Mapping[str, dict[str, Any]]
"""file name → model, predicted, probability"""


@dataclass(slots=True)
class Item:
    """One file of a dataset."""

    file_name: str
    label: str | None
    split: Split | None
    group: str | None
    status: ItemStatus
    reasons: list[str] = field(default_factory=list)
    duplicate_of: str | None = None
    duration: float | None = None
    """seconds"""
    width: int | None = None
    """pixels"""
    height: int | None = None
    position: int | None = None
    """index in the packed dataset; None: not in it"""
    content: bytes = b""
    """digest of what is stored of it"""


def write_items(directory: Path, items: Iterable[Item]) -> None:
    """Write items.db into `directory`, which has none yet; durable when it returns. Raises OSError, as writing any other file does."""
    marks = ", ".join("?" * len(_COLUMNS))
    try:
        with contextlib.closing(sqlite3.connect(directory / ITEMS_FILE)) as connection, connection:
            connection.execute(_TABLE)
            connection.executemany(f"INSERT INTO items ({', '.join(_COLUMNS)}) VALUES ({marks})", map(_as_row, items))  # noqa: S608 - constants
            for index in _INDEXES:
                connection.execute(index)
    except sqlite3.OperationalError as error:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def packed_items(path: Path) -> Iterator[Item]:
    """Yield the items of items.db at `path` that lie in the packed dataset, in its order."""
    query = f"SELECT {', '.join(_COLUMNS)} FROM items WHERE position IS NOT NULL ORDER BY position"  # noqa: S608 - constants
    with opened(path) as connection:
        for row in connection.execute(query):
            file_name, label, split, group, status, reasons, *rest = row
            yield Item(file_name, label, split, group, status, json.loads(reasons), *rest)


def names_of(path: Path, positions: Sequence[int]) -> list[str]:
    """Return the file names of packed items, in the order of `positions`. Raises KeyError for one that items.db at `path` does not know."""
    query = f"SELECT position, file_name FROM items WHERE position IN ({', '.join('?' * len(positions))})"  # noqa: S608 - constants
    with opened(path) as connection:
        names: dict[int, str] = dict(connection.execute(query, tuple(positions)).fetchall())
    return [names[position] for position in positions]


def page_of_items(  # noqa: PLR0913 - by keyword, each a filter of the API
    path: Path,
    *,
    split: str | None = None,
    label: str | None = None,
    status: str | None = None,
    limit: int = 20,
    after: str | None = None,
    doubts: Doubts | None = None,
) -> Page:
    """Return items as JSON, in the archive's order, after the id `after`. Raises ConfigError for an id of another form.

    Accepted items that a model doubts (`doubts`) are suspect.
    """
    doubts = doubts or {}
    wanted = {column: value for column, value in (("split", split), ("label", label)) if value is not None}
    judged, names = _with_status(status, list(doubts))
    where = " AND ".join(["id > ?", *(f"{column} = ?" for column in wanted), *judged])
    query = f"SELECT id, {', '.join(_COLUMNS)} FROM items WHERE {where} ORDER BY id LIMIT ?"  # noqa: S608 - constants
    with opened(path) as connection:
        rows = connection.execute(query, (_item_number(after), *wanted.values(), *names, limit + 1)).fetchall()
    return Page([_as_json(row, doubts) for row in rows[:limit]], len(rows) > limit)


def _with_status(status: str | None, doubted: list[str]) -> tuple[list[str], list[str]]:
    """Return conditions for items of that status where the files `doubted` are suspect, and what belongs into their marks."""
    if status is None:
        return [], []
    names = f"file_name IN ({', '.join('?' * len(doubted))})"
    conditions = {"suspect": f"(status = ? OR (status = 'accepted' AND {names}))", "accepted": f"status = ? AND NOT {names}"}
    if status not in conditions or not doubted:
        return ["status = ?"], [status]
    return [conditions[status]], [status, *doubted]


def find_item(path: Path, item_id: str, doubts: Doubts | None = None) -> tuple[dict[str, Any], int | None] | None:
    """Return an item as JSON and its place in the packed dataset (None: not in it); None where items.db at `path` has no such item."""
    try:
        number = _item_number(item_id) if item_id.startswith(_PREFIX) else 0  # no item has that one
    except ConfigError:
        return None
    query = f"SELECT id, {', '.join(_COLUMNS)} FROM items WHERE id = ?"  # noqa: S608 - constants
    with opened(path) as connection:
        row = connection.execute(query, (number,)).fetchone()
    return None if row is None else (_as_json(row, doubts or {}), row[-2])


def items_at(path: Path, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Return packed items as JSON, in the order of `positions`. Raises KeyError for one that items.db at `path` does not know."""
    query = f"SELECT id, {', '.join(_COLUMNS)} FROM items WHERE position IN ({', '.join('?' * len(positions))})"  # noqa: S608 - constants
    with opened(path) as connection:
        found = {row[-2]: _as_json(row, {}) for row in connection.execute(query, tuple(positions)).fetchall()}
    return [found[position] for position in positions]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open for reading; `immutable`: published files never change, so no lock is taken."""
    address = f"file:{urllib.parse.quote(str(path))}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        yield connection


def _as_row(item: Item) -> tuple[Any, ...]:
    return (
        item.file_name, item.label, item.split, item.group, item.status, json.dumps(item.reasons), item.duplicate_of,
        item.duration, item.width, item.height, item.position, item.content,
    )  # fmt: skip


def _as_json(row: tuple[Any, ...], doubts: Doubts) -> dict[str, Any]:
    number, file_name, label, split, group, status, reasons, duplicate_of, duration, width, height, position, _ = row
    doubt = doubts.get(file_name) if position is not None else None
    return {
        "id": f"{_PREFIX}{number:06d}",
        "object": "item",
        "file_name": file_name,
        "label": label,
        "split": split,
        "group": group,
        "status": "suspect" if doubt else status,
        "reasons": [*json.loads(reasons), *([LABEL_DOUBTED] if doubt else [])],
        "duplicate_of": duplicate_of,
        "duration_seconds": duration,
        "width": width,
        "height": height,
        "kept": position is not None,
        "doubt": doubt,
    }


def _item_number(item_id: str | None) -> int:
    if item_id is None:
        return 0
    digits = item_id.removeprefix(_PREFIX)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise ConfigError(f"{item_id[:50]!r} is no item id", param="after")
    return int(digits)
