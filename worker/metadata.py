"""metadata.csv and metadata.jsonl: which file has which label, split and group, as their author wrote it.

Columns, after the Hugging Face ImageFolder and AudioFolder conventions: `file_name` and `label`; optional `split`; and optional the first
of GROUP_COLUMNS that is there. Other columns are left alone.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.errors import DatasetError

# What data sets call the person or place that several files come from; `client_id` is Common Voice's word.
GROUP_COLUMNS = ("speaker", "group", "speaker_id", "group_id", "client_id")
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """One row as it stands, outer spaces removed; empty strings where nothing stands."""

    line: int
    file_name: str
    label: str
    split: str
    group: str


def parse_metadata(name: str, data: bytes, max_rows: int) -> Iterator[MetadataRow]:
    """Yield the rows of a metadata file; `name` ends in .csv or .jsonl and stands in messages.

    Raises DatasetError: metadata_unreadable (not text), metadata_invalid (no table, a column is missing, a row is broken),
    metadata_too_large (more than `max_rows`).
    """
    read = _read_csv if name.endswith(".csv") else _read_jsonl
    for count, row in enumerate(read(name, _decode(name, data)), start=1):
        if count > max_rows:
            raise DatasetError(f"{name} has more than {max_rows} rows", code="metadata_too_large", param=name)
        yield row


def _decode(name: str, data: bytes) -> str:
    """UTF-8 with or without its mark, or UTF-16 with it: what Excel calls Unicode text."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{name} is not UTF-8 text (byte {error.start})", code="metadata_unreadable", param=name, hint="save it as CSV UTF-8"
        ) from error


def _read_csv(name: str, text: str) -> Iterator[MetadataRow]:
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = _find_delimiter(name, first)
    # strict: otherwise a quote that is never closed would take the rest of the file into one cell.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        rows = (row for row in reader if any(cell.strip() for cell in row))
        header = _columns(next(rows))
        group = next((column for column in GROUP_COLUMNS if column in header), None)
        for cells in rows:
            if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
                raise _invalid(name, reader.line_num, f"has {len(cells)} cells, the header has {len(header)}")
            found = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            yield _row(reader.line_num, found, group)
    except csv.Error as error:
        raise _invalid(name, reader.line_num, f"can't be read as CSV: {error}") from error


def _find_delimiter(name: str, header: str) -> str:
    """Return the delimiter under which the header has the needed columns. Sniffing by statistics would guess; this can't."""
    for delimiter in _DELIMITERS:
        try:
            columns = _columns(next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), []))
        except csv.Error:
            continue
        if {"file_name", "label"} <= set(columns):
            return delimiter
    raise DatasetError(
        f"{name} begins with {header.strip()[:100]!r}; its first line must name the columns file_name and label",
        code="metadata_invalid", param=name, hint="separate the columns by comma, semicolon or tab",
    )  # fmt: skip


def _columns(cells: list[str]) -> list[str]:
    return [cell.strip().casefold() for cell in cells]


def _read_jsonl(name: str, text: str) -> Iterator[MetadataRow]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _invalid(name, number, "is no JSON") from error
        if not isinstance(found, dict) or "file_name" not in found or "label" not in found:
            raise _invalid(name, number, "is no JSON object with file_name and label")
        group = next((column for column in GROUP_COLUMNS if column in found), None)
        yield _row(number, {key: _as_text(value) for key, value in found.items()}, group)


def _as_text(value: Any) -> str:
    """Return a string or whole number as text; anything else names no label, split or group."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _row(line: int, found: dict[str, str], group: str | None) -> MetadataRow:
    return MetadataRow(
        line, found.get("file_name", ""), found.get("label", ""), found.get("split", ""), found.get(group, "") if group else ""
    )


def _invalid(name: str, line: int, what: str) -> DatasetError:
    return DatasetError(f"{name}, line {line}: {what}", code="metadata_invalid", param=name)
