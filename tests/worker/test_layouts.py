"""Label, split and group of each file, for every layout that is accepted, and what is said of metadata that can't be used."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from models.errors import DatasetError
from worker.archive_rules import Content, Member
from worker.layouts import MAX_LABEL, Layout, Placement, plan_layout
from worker.metadata import GROUP_COLUMNS, parse_metadata

Place = tuple[str | None, str | None, str | None, str | None]


class Listing:
    """An archive's directory, with the contents of its metadata files."""

    ignored = 0

    def __init__(self, names: list[str], texts: dict[str, bytes] | None = None) -> None:
        self.texts = texts or {}
        self.members = tuple(Member(name, 1) for name in [*self.texts, *names])

    def read(self, member: Member) -> bytes:
        return self.texts[member.name]

    def contents(self) -> Iterator[Content]:
        raise AssertionError("a layout is planned from names")

    def heads(self, count: int) -> list[bytes]:
        raise AssertionError("a layout is planned from names")


def places(layout: Layout) -> dict[str, Place]:
    return {name: shown(placement) for name, placement in layout.placements.items()}


def shown(placement: Placement) -> Place:
    return placement.label, placement.split, placement.group, placement.reason


def plan(names: list[str], texts: dict[str, bytes] | None = None) -> Layout:
    return plan_layout(Listing(names, texts), 100)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["yes/1.wav", "no/2.wav"], [("yes", None), ("no", None)]),
        (["data/yes/1.wav", "data/no/2.wav"], [("yes", None), ("no", None)]),
        (["yes/ann/1.wav", "no/bob/2.wav"], [("yes", None), ("no", None)]),
        (
            ["cafe\u0301/1.wav".replace("e\u0301", "\u00e9"), "\u0646\u0639\u0645/1.wav"],
            [("caf\u00e9", None), ("\u0646\u0639\u0645", None)],
        ),
        (["train/yes/1.wav", "test/no/2.wav"], [("yes", "train"), ("no", "test")]),
        (["set/train/yes/1.wav", "set/test/no/2.wav"], [("yes", "train"), ("no", "test")]),
        (["Training/yes/1", "VAL/yes/2", "valid/yes/3", "dev/yes/4"], [("yes", "train"), *[("yes", "validation")] * 3]),
        (["train/yes/1.wav", "train/no/2.wav"], [("yes", "train"), ("no", "train")]),
        (["train/1.wav", "test/2.wav", "plane/3.wav"], [("train", None), ("test", None), ("plane", None)]),
    ],
)
def test_folders_tell_label_and_split(names: list[str], expected: list[tuple[str, str | None]]) -> None:
    assert [(placement.label, placement.split) for placement in plan(names).placements.values()] == expected


def test_files_outside_label_folders_have_no_label() -> None:
    found = places(plan(["README.md", "yes/1.wav", "no/2.wav"]))
    assert found["README.md"] == (None, None, None, "no_label")
    found = places(plan(["train/yes/1.wav", "train/no/2.wav", "test/no/3.wav", "train/4.wav", "notes/a.txt"]))
    assert found["train/4.wav"] == (None, "train", None, "no_label")
    assert found["notes/a.txt"] == (None, None, None, "no_label")


def test_a_label_that_is_too_long_is_refused_for_its_files() -> None:
    found = places(plan(["x" * (MAX_LABEL + 1) + "/1", "x" * MAX_LABEL + "/1", " /1"]))
    assert [reason for _, _, _, reason in found.values()] == ["label_invalid", None, "label_invalid"]


CSV = "file_name,label,split,speaker\n1.wav,yes,train,ann\nsub/2.wav,no,val,bob\n"


@pytest.mark.parametrize(
    "text",
    [
        CSV.encode(),
        b"\xef\xbb\xbf" + CSV.encode(),
        CSV.encode("utf-16"),
        CSV.replace(",", ";").encode(),
        CSV.replace(",", "\t").replace("\n", "\r\n").encode(),
        CSV.replace("file_name,label", 'File_Name , "LABEL"').encode(),
        CSV.replace(",", ", ").replace("\n", "\n\n").encode(),
    ],
)
def test_csv_of_every_spelling_says_the_same(text: bytes) -> None:
    layout = plan(["1.wav", "sub/2.wav"], {"metadata.csv": text})
    assert places(layout) == {"1.wav": ("yes", "train", "ann", None), "sub/2.wav": ("no", "validation", "bob", None)}
    assert (layout.missing, layout.warnings) == ({}, [])


def test_jsonl_says_the_same_as_csv() -> None:
    rows: list[dict[str, Any]] = [
        {"file_name": "1.wav", "label": 7, "split": "test", "group": "g"},
        {"file_name": "2.wav", "label": "no", "split": None, "other": [1]},
        {"file_name": "3.wav", "label": None},
        {"file_name": "4.wav", "label": True},
    ]
    text = "\n".join(map(json.dumps, rows)).encode()
    assert places(plan([f"{number}.wav" for number in (1, 2, 3, 4)], {"metadata.jsonl": text})) == {
        "1.wav": ("7", "test", "g", None),
        "2.wav": ("no", None, None, None),
        "3.wav": (None, None, None, "no_label"),
        "4.wav": (None, None, None, "no_label"),
    }


@pytest.mark.parametrize("column", GROUP_COLUMNS)
def test_every_group_column_is_found(column: str) -> None:
    text = f"{column},file_name,label\nann,1.wav,yes\n".encode()
    assert plan(["1.wav"], {"metadata.csv": text}).placements["1.wav"].group == "ann"


def test_the_speaker_comes_before_other_groups() -> None:
    text = b"file_name,label,group,speaker\n1.wav,yes,room,ann\n"
    assert plan(["1.wav"], {"metadata.csv": text}).placements["1.wav"].group == "ann"


def test_metadata_is_relative_to_the_folder_around_everything() -> None:
    layout = plan(["set/clips/1.wav"], {"set/metadata.csv": b"file_name,label\nclips/1.wav,yes\n"})
    assert places(layout) == {"set/clips/1.wav": ("yes", None, None, None)}


def test_metadata_inside_split_folders_declares_their_split() -> None:
    texts = {
        "set/train/metadata.csv": b"file_name,label\n1.wav,yes\n2.wav,no\n",
        "set/dev/metadata.jsonl": b'{"file_name": "1.wav", "label": "no"}\n',
    }
    assert places(plan(["set/train/1.wav", "set/train/2.wav", "set/dev/1.wav"], texts)) == {
        "set/train/1.wav": ("yes", "train", None, None),
        "set/train/2.wav": ("no", "train", None, None),
        "set/dev/1.wav": ("no", "validation", None, None),
    }


def test_rows_and_files_without_each_other_are_reported() -> None:
    text = b"file_name,label\n1.wav,yes\n./gone.wav,no\n../out.wav,no\n,no\nwin\\2.wav,no\n"
    layout = plan(["1.wav", "win/2.wav", "extra.wav"], {"metadata.csv": text})
    assert places(layout)["extra.wav"] == (None, None, None, "not_in_metadata")
    assert places(layout)["win/2.wav"] == ("no", None, None, None)
    assert {name: shown(placement) for name, placement in layout.missing.items()} == {
        "gone.wav": ("no", None, None, "missing_from_archive"),
        "'../out.wav'": ("no", None, None, "missing_from_archive"),
    }
    assert [warning["code"] for warning in layout.warnings] == ["metadata_nameless"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1.wav,,train,", "no_label"),
        ("1.wav,yes,later,", "split_unknown"),
        ("1.wav,y\u202ees,,", "label_invalid"),
        ("1.wav,yes,,a\x07nn", "label_invalid"),
        (f"1.wav,{'x' * (MAX_LABEL + 1)},,", "label_invalid"),
        ("1.wav,yes,,\n1.wav,no,,", "metadata_conflict"),
        ("1.wav,yes,,\n1.wav,yes,,", None),
        ("1.wav", "no_label"),
    ],
)
def test_a_bad_row_costs_only_its_file(row: str, reason: str | None) -> None:
    text = f"file_name,label,split,speaker\n{row}\n2.wav,no,,\n".encode()
    found = places(plan(["1.wav", "2.wav"], {"metadata.csv": text}))
    assert found["1.wav"][3] == reason
    assert found["2.wav"] == ("no", None, None, None)


def test_metadata_of_deeper_folders_is_an_ordinary_file() -> None:
    found = places(plan(["yes/1.wav", "no/2.wav"], {"yes/metadata.csv": b"not a table"}))
    assert found["yes/metadata.csv"] == ("yes", None, None, None)


@pytest.mark.parametrize(
    ("name", "text", "code", "part"),
    [
        ("metadata.csv", b"name,label\n1,yes\n", "metadata_invalid", "file_name and label"),
        ("metadata.csv", b"", "metadata_invalid", "file_name and label"),
        ("metadata.csv", b"file_name,label\n1.wav,yes,no,never\n", "metadata_invalid", "line 2: has 4 cells"),
        ("metadata.csv", b'file_name,label\n1.wav,"yes\n2.wav,no\n', "metadata_invalid", "can't be read as CSV"),
        ("metadata.csv", b"file_name,label\n1.wav," + b"x" * 200_000, "metadata_invalid", "can't be read as CSV"),
        ("metadata.csv", "file_name,label\n1.wav,\u00e9\n".encode("latin-1"), "metadata_unreadable", "byte 22"),
        ("metadata.csv", b"file_name,label\n" + b"1.wav,yes\n" * 201, "metadata_too_large", "more than 200 rows"),
        ("metadata.jsonl", b'{"file_name": "1.wav"}\n', "metadata_invalid", "line 1"),
        ("metadata.jsonl", b'{"file_name": "1", "label": "a"}\n[1]\n', "metadata_invalid", "line 2"),
        ("metadata.jsonl", b"{broken\n", "metadata_invalid", "is no JSON"),
        ("metadata.jsonl", b"[" * 100_000, "metadata_invalid", "is no JSON"),
    ],
)
def test_metadata_that_cant_be_used_fails_the_dataset(name: str, text: bytes, code: str, part: str) -> None:
    with pytest.raises(DatasetError) as caught:
        plan(["1.wav"], {name: text})
    assert caught.value.code == code
    assert part in caught.value.message
    assert caught.value.param == name


def test_two_metadata_files_side_by_side_are_ambiguous() -> None:
    texts = {"metadata.csv": b"file_name,label\n1.wav,yes\n", "metadata.jsonl": b'{"file_name": "1.wav", "label": "no"}'}
    with pytest.raises(DatasetError) as caught:
        plan(["1.wav"], texts)
    assert caught.value.code == "metadata_ambiguous"


def test_rows_know_their_line() -> None:
    rows = list(parse_metadata("metadata.csv", b"file_name,label\n\n1.wav,yes\n", 10))
    assert [(row.line, row.file_name) for row in rows] == [(3, "1.wav")]
