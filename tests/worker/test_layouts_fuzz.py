"""Any bytes in a metadata file, any names: a dataset error or rows and labels that can be stored, and nothing else."""

import json
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DatasetError
from tests.conftest import FUZZ_FACTOR
from worker.archive_rules import safe_parts
from worker.layouts import MAX_LABEL, _place_row
from worker.metadata import MetadataRow, parse_metadata

ROWS = 20
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=40)  # surrogates without their other half too
CELL = ANY_TEXT | st.sampled_from(["", '"', '""', "=1+1", "\0", "\u202e", "a,b", "a\nb", "😀", "-1", "<img onerror=1>"])
TABLE = st.builds(
    lambda header, rows, end: end.join([header, *(",".join(cells) for cells in rows)]),
    st.sampled_from(["file_name,label", "file_name;label;split", "file_name\tlabel\tspeaker", "label", ""]),
    st.lists(st.lists(CELL, max_size=4), max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2))
OBJECT = st.fixed_dictionaries({"file_name": VALUE, "label": VALUE}, optional={"split": VALUE, "speaker": VALUE})
LINES = st.lists(OBJECT.map(json.dumps) | ANY_TEXT, max_size=4).map("\n".join)
CODECS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])


def encoded(text: str, codec: str) -> bytes:
    return text.encode(codec, "surrogatepass")


def check(name: str, data: bytes) -> None:
    try:
        rows = list(parse_metadata(name, data, ROWS))
    except DatasetError:
        return
    assert len(rows) <= ROWS
    for row in rows:
        check_label(row)


def check_label(row: MetadataRow) -> None:
    """What comes of a label can be stored, shown and compared: one line of text in one form, without control characters."""
    placement = _place_row(row, None)
    for text in (placement.label, placement.group):
        if text is not None:
            assert text.encode()
            assert text == unicodedata.normalize("NFC", text).strip()
            assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
    assert placement.label is None or 0 < len(placement.label) <= MAX_LABEL
    assert (placement.label is None) == (placement.reason is not None)


@settings(max_examples=150 * FUZZ_FACTOR)
@given(st.binary(max_size=200), st.sampled_from(["metadata.csv", "metadata.jsonl"]))
def test_noise(data: bytes, name: str) -> None:
    check(name, data)


@settings(max_examples=150 * FUZZ_FACTOR)
@given(TABLE, CODECS)
def test_tables(table: str, codec: str) -> None:
    check("metadata.csv", encoded(table, codec))


@settings(max_examples=150 * FUZZ_FACTOR)
@given(LINES, CODECS)
def test_lines_of_json(lines: str, codec: str) -> None:
    check("metadata.jsonl", encoded(lines, codec))


@settings(max_examples=200 * FUZZ_FACTOR)
@given(CELL, CELL, CELL)
def test_labels(label: str, split: str, group: str) -> None:
    check_label(MetadataRow(1, "a.wav", label.strip(), split.strip(), group.strip()))  # as the parser gives them


@settings(max_examples=200 * FUZZ_FACTOR)
@given(st.lists(CELL | st.sampled_from(["..", ".", "C:", "~", "con", "a/b", "\\", "//", "..\\x"]), max_size=5).map("/".join))
def test_names_of_members_never_lead_out(name: str) -> None:
    try:
        parts = safe_parts(name)
    except DatasetError:
        return
    assert not any(part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part for part in parts)
    assert "/".join(parts).encode().decode() == "/".join(parts)
