import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MalformedError, RequestError, UnsupportedTypeError, ValidationError
from app.filebody import MAX_FIELD_BYTES, MAX_FIELDS, FileBody
from tests.app.conftest import request_of

FORM = {"Content-Type": "multipart/form-data; boundary=XX"}
FIELDS = frozenset({"name", "modality", *(f"field{number}" for number in range(20))})


def part(name: str, content: bytes, *, headers: bytes = b"", filename: str = "") -> bytes:
    label = f'; filename="{filename}"' if filename else ""
    return b"--XX\r\n" + headers + f'Content-Disposition: form-data; name="{name}"{label}\r\n\r\n'.encode() + content + b"\r\n"


END = b"--XX--\r\n"
FILE = part("file", b"PK\x03\x04 data", filename="a.zip")


def read(chunks: Iterable[bytes], headers: dict[str, str] | None = None) -> tuple[bytes, dict[str, str]]:
    async def run() -> tuple[bytes, dict[str, str]]:
        body = FileBody(
            request_of(chunks, FORM if headers is None else headers),
            fields=FIELDS,
            takes=lambda kind: kind == "application/zip",
            expected="a zip",
        )
        found = b"".join([piece async for piece in body])
        return found, body.fields

    return asyncio.run(run())


def test_a_raw_body_is_the_file() -> None:
    assert read([b"ab", b"", b"cd"], {"Content-Type": "application/zip; version=1"}) == (b"abcd", {})


def test_a_form_gives_file_and_fields() -> None:
    found = read([part("name", "zwölf".encode()) + FILE + part("modality", b"audio") + END])
    assert found == (b"PK\x03\x04 data", {"name": "zwölf", "modality": "audio"})


@given(
    content=st.binary(max_size=300) | st.sampled_from([b"\r\n--XX", b"\r\n--X", b"--XX--", b"\r\n\r\n--XY\r\n"]),
    cuts=st.lists(st.integers(0, 500), max_size=8),
)
def test_where_the_chunks_are_cut_does_not_matter(content: bytes, cuts: list[int]) -> None:
    if b"\r\n--XX" in b"\r\n" + content + b"\r\n":
        return  # that is a boundary, and not content
    whole = part("name", b"n") + part("file", content) + END
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    chunks = [whole[start:stop] for start, stop in itertools.pairwise(edges)]
    assert read(chunks) == (content, {"name": "n"})


def numbered(chunks: Iterable[bytes], *, most: int) -> tuple[list[tuple[int, bytes]], list[str | None]]:
    async def run() -> tuple[list[tuple[int, bytes]], list[str | None]]:
        body = FileBody(request_of(chunks, FORM), fields=FIELDS, takes=lambda _: False, expected="a zip", most_files=most)
        return [found async for found in body.numbered()], body.names

    return asyncio.run(run())


def test_several_files_come_with_their_numbers_and_names() -> None:
    form = part("file", b"one", filename="a.wav") + part("file", b"") + part("name", b"n") + part("file", b"three", filename="x" * 300)
    pieces, names = numbered([form, END], most=3)
    assert pieces == [(0, b"one"), (2, b"three")]
    assert names == ["a.wav", None, "x" * 255]


def test_one_file_more_than_asked_for_is_refused() -> None:
    with pytest.raises(ValidationError, match="more than 2 files"):
        numbered([FILE * 3 + END], most=2)
    with pytest.raises(ValidationError, match="this part stands twice"):
        numbered([FILE * 2 + END], most=1)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "", "multipart/mixed; boundary=XX", "application/x-www-form-urlencoded"]
)
def test_other_types_are_refused_before_the_body_is_read(kind: str) -> None:
    with pytest.raises(UnsupportedTypeError) as caught:
        FileBody(request_of([], {"Content-Type": kind}), fields=FIELDS, takes=lambda _: False, expected="a zip")
    assert "a zip" in (caught.value.hint or "")


BROKEN = {
    "no boundary": ({"Content-Type": "multipart/form-data"}, [FILE + END]),
    "empty boundary": ({"Content-Type": "multipart/form-data; boundary="}, [FILE + END]),
    "boundary of 71": ({"Content-Type": f"multipart/form-data; boundary={'x' * 71}"}, [FILE + END]),
    "another boundary": (FORM, [FILE.replace(b"XX", b"YY") + END]),
    "unclosed": (FORM, [FILE]),
    "cut in the headers": (FORM, [FILE[:20]]),
    "cut in the content": (FORM, [FILE[:-6]]),
    "nothing": (FORM, []),
    "junk": (FORM, [b"\0" * 1000]),
    "header of 100 KB": (FORM, [part("file", b"x", headers=b"X-Long: " + b"y" * 100_000 + b"\r\n") + END]),
    "10,000 headers": (FORM, [part("file", b"x", headers=b"X-One: y\r\n" * 10_000) + END]),
    "header without a colon": (FORM, [part("file", b"x", headers=b"nonsense\r\n") + END]),
    "field that is not UTF-8": (FORM, [part("name", b"\xff\xfe") + FILE + END]),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "chunks"), BROKEN.values(), ids=BROKEN)
def test_broken_forms_are_malformed(headers: dict[str, str], chunks: list[bytes]) -> None:
    began = time.monotonic()
    with pytest.raises(MalformedError) as caught:
        read(chunks, headers)
    assert caught.value.code == "malformed_multipart"
    assert time.monotonic() - began < 1.0


WRONG = {
    "no file": ([part("name", b"n") + END], "/file"),
    "no parts": ([END], "/file"),
    "unknown part": ([part("nmae", b"n") + FILE + END], "/nmae"),
    "part without a name": ([b"--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n" + FILE + END], "/"),
    "file twice": ([FILE + FILE + END], "/file"),
    "field twice": ([part("name", b"a") + part("name", b"b") + FILE + END], "/name"),
    "long field": ([part("name", b"n" * (MAX_FIELD_BYTES + 1)) + FILE + END], "/name"),
    "long field in pieces": ([b"--XX\r\nContent-Disposition: form-data; name=name\r\n\r\n", *[b"n" * 1000] * 5], "/name"),
    "many fields": ([b"".join(part(f"field{number}", b"") for number in range(MAX_FIELDS + 1)) + FILE + END], "/field8"),
    "1,001 parts": ([b"".join(part("name", b"") for _ in range(1001)) + FILE + END], "/name"),
    "path as a name": ([part("../../etc/passwd", b"") + FILE + END], "/../../etc/passwd"),
}


@pytest.mark.parametrize(("chunks", "pointer"), WRONG.values(), ids=WRONG)
def test_forms_with_other_parts_than_asked_for_are_refused(chunks: list[bytes], pointer: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(chunks)
    assert caught.value.errors[0]["pointer"] == pointer


def test_the_file_name_of_a_part_goes_nowhere() -> None:
    assert read([part("file", b"x", filename="../../etc/cron.d/x") + END]) == (b"x", {})


def test_a_long_name_is_not_echoed_whole() -> None:
    with pytest.raises(ValidationError) as caught:
        read([part("n" * 3000, b"") + END])
    assert len(caught.value.errors[0]["pointer"]) < 100


@given(
    st.lists(
        st.sampled_from([b"--XX", b"--", b"\r\n", b"\r", b"\n", b":", b'Content-Disposition: form-data; name="file"', b"x", b"\0"]),
        max_size=30,
    )
)
def test_no_sequence_of_tokens_escapes_the_parser(tokens: list[bytes]) -> None:
    with contextlib.suppress(RequestError):
        read(tokens)
