"""First bytes tell the format, to the service and to its clients alike."""

import pytest

from worker.archive_formats import HEAD_BYTES, MEDIA_TYPES, formats_of
from worker.archives import FORMATS


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"PK\x03\x04", ["zip"]),
        (b"PK\x05\x06", ["zip"]),
        (b"\x1f\x8b\x08", ["tar.gz"]),
        (bytes(257) + b"ustar", ["tar"]),
        (b"PK\x03\x04" + bytes(253) + b"ustar", ["zip", "tar"]),
        (b"PK\x07\x08", []),
        (b"\x1f\x8b\x07", []),
        (bytes(256) + b"ustar", []),
        (b"", []),
        (b"Rar!", []),
    ],
)
def test_formats(head: bytes, expected: list[str]) -> None:
    assert formats_of(head) == expected
    assert formats_of(head.ljust(HEAD_BYTES, b"\0")) == expected


def test_every_format_that_is_read_has_a_media_type() -> None:
    assert set(MEDIA_TYPES) == set(FORMATS)
