"""Which archive a file is, told by its first bytes: the same for the service and for its clients, which import little else."""

from typing import Final

HEAD_BYTES = 512  # a tar's header, the longest of what is looked at
MEDIA_TYPES: Final = {"zip": "application/zip", "tar": "application/x-tar", "tar.gz": "application/gzip"}  # as a client sends them
_MAGIC: Final = (
    ("zip", 0, (b"PK\3\4", b"PK\5\6")),  # a member, or the end of an empty archive (APPNOTE 4.3)
    ("tar.gz", 0, (b"\x1f\x8b\x08",)),  # with deflate, the only method there is (RFC 1952)
    ("tar", 257, (b"ustar",)),  # POSIX.1-2017, pax
)


def formats_of(head: bytes) -> list[str]:
    """Return every format that a file begins like, by its first HEAD_BYTES; more than one where somebody made it so."""
    return [name for name, offset, starts in _MAGIC if head[offset:].startswith(starts)]
