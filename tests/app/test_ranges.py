"""Which bytes a Range header asks for, and when it is to be overlooked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranges import part_of


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("bytes=0-1", (0, 2)), ("bytes=0-", (0, 10)), ("bytes=3-3", (3, 4)), ("bytes=9-", (9, 10)), ("bytes=4-99", (4, 10)),
     ("bytes=-4", (6, 10)), ("bytes=-99", (0, 10)), ("Bytes=2-5", (2, 6)), (" bytes=2-5 ", (2, 6))],
)  # fmt: skip
def test_one_range(asked: str, expected: tuple[int, int]) -> None:
    assert part_of(asked, 10) == range(*expected)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=999999999999999999-", "bytes=-0"])
def test_a_range_that_has_no_byte(asked: str) -> None:
    part = part_of(asked, 10)
    assert part is not None
    assert not part


@pytest.mark.parametrize(
    "asked",
    ["", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,4-5", "bytes=0-1,", "items=0-1", "bytes=a-b", "bytes=+1-2", "bytes=1--2",
     "bytes=0x1-2", "bytes=٣-٤", "bytes=1.5-2", "bytes=0-1 junk", "bytes=" + "9" * 5000 + "-"],
)  # fmt: skip
def test_what_is_none_or_several_gets_everything(asked: str) -> None:
    assert part_of(asked, 10) is None


@given(st.text(alphabet="bytes=0123456789-, ", max_size=20) | st.text(), st.integers(0, 1000))
def test_no_byte_lies_outside(asked: str, size: int) -> None:
    part = part_of(asked, size)
    assert part is None or not part or (0 <= part.start < part.stop <= size and part.step == 1)
