"""Tar archives, plain or gzipped, read as a stream of blocks.

A reader of its own, because the standard library's reads extended headers of any length into memory, follows sparse maps and knows links;
here all of that is refused before it is read. Formats: POSIX.1-2017 `pax` (ustar and extended headers) and GNU long names.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from models.errors import DatasetError
from worker.archive_rules import (
    HEAD_BYTES,
    MAX_METADATA_BYTES,
    METADATA_NAMES,
    Admission,
    ArchiveLimits,
    Budget,
    Content,
    Member,
    refuse,
    spread,
)

_BLOCK = 512
_CHUNK = 2**20
_MAX_HEADER_BYTES = 2**16  # of one extended header; real ones hold a name and some times
_MAX_HEADERS_IN_ROW = 4  # a global and a local pax header, a long name and a long link
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_EXTENDED = (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK)
_SPARSE = b"S"
_METADATA_DEPTH = 2  # folders that can be around one that counts: one around everything, and a split's


class _Source(Protocol):
    """The blocks of the archive, one after another."""

    def read(self, count: int) -> bytes:
        """Return `count` bytes, fewer only at the end."""

    def skip(self, count: int, name: str) -> None:
        """Pass over `count` bytes of member `name`."""


class _PlainSource:
    """An uncompressed file: passing over is seeking."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file = file
        self._budget = budget
        self._size = os.fstat(file.fileno()).st_size

    def read(self, count: int) -> bytes:
        self._budget.spend(count)
        return self._file.read(count)

    def skip(self, count: int, name: str) -> None:
        self._budget.spend(count, name)
        if self._file.seek(count, os.SEEK_CUR) > self._size:
            raise _cut_off(name)


class _GzipSource:
    """A gzipped file: all that comes out is counted. `allowance`, if given, ends the look without an error."""

    def __init__(self, file: BinaryIO, budget: Budget, allowance: int | None = None) -> None:
        self._file = gzip.GzipFile(fileobj=file)
        self._budget = budget
        self._left = allowance

    def read(self, count: int) -> bytes:
        self._budget.spend(count)
        if self._left is not None:
            self._left -= count
            if self._left < 0:
                raise _AllowanceSpent
        try:
            return self._file.read(count)
        except (OSError, EOFError, zlib.error) as error:
            raise refuse("archive_unreadable", f"its gzip stream is damaged or cut off: {error}") from error

    def skip(self, count: int, name: str) -> None:
        while count > 0:
            chunk = self.read(min(count, _CHUNK))
            if not chunk:
                raise _cut_off(name)
            count -= len(chunk)


class _AllowanceSpent(Exception):  # noqa: N818 - a signal inside this file, never seen outside
    pass


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int
    kind: bytes


class TarArchive:
    """A tar file whose headers keep all rules; see worker.archive_rules.Archive."""

    def __init__(self, path: Path, limits: ArchiveLimits, *, gzipped: bool, allowance: int | None = None) -> None:
        """Read and check all headers; with `allowance`, only those in the first so many expanded bytes of a gzipped archive.

        Raises DatasetError with a code archive_*, naming member and rule.
        """
        self._path = path
        self._limits = limits
        self._gzipped = gzipped
        self._heads: list[bytes] = []
        self._metadata: dict[str, bytes] = {}
        admission = Admission(limits)
        with path.open("rb") as file:
            source = self._source(file, allowance)
            try:
                self.members: tuple[Member, ...] = tuple(self._scan(source, admission))
            except _AllowanceSpent:
                self.members = ()
        self.ignored = admission.ignored

    def contents(self) -> Iterator[Content]:
        """Read the members one by one; see Archive.contents."""
        admission = Admission(self._limits)
        with self._path.open("rb") as file:
            source = self._source(file, None)
            for header, name in _walk(source, admission):
                if name is None:
                    source.skip(_padded(header.size), header.name)
                elif header.size > self._limits.max_member_bytes:
                    source.skip(_padded(header.size), name)
                    yield Content(Member(name, header.size), b"", "file_too_large")
                else:
                    yield Content(Member(name, header.size), _read_exactly(source, header.size, name), None)

    def read(self, member: Member) -> bytes:
        """Return a metadata file, kept from the scan; see Archive.read."""
        if member.name not in self._metadata:
            raise DatasetError(
                f"{member.name} has, with other metadata, more than {MAX_METADATA_BYTES} bytes",
                code="metadata_too_large",
                param=member.name,
            )
        return self._metadata[member.name]

    def heads(self, count: int) -> list[bytes]:
        """Return first bytes; see Archive.heads."""
        return [self._heads[index] for index in spread(len(self._heads), count)]

    def _source(self, file: BinaryIO, allowance: int | None) -> _Source:
        budget = Budget(self._limits, self._path.stat().st_size)
        return _GzipSource(file, budget, allowance) if self._gzipped else _PlainSource(file, budget)

    def _scan(self, source: _Source, admission: Admission) -> Iterator[Member]:
        room = MAX_METADATA_BYTES  # for all metadata files together: a tar can hold thousands
        for header, name in _walk(source, admission):
            if name is None:
                source.skip(_padded(header.size), header.name)
                continue
            if name.rpartition("/")[2] in METADATA_NAMES and header.size <= room and name.count("/") <= _METADATA_DEPTH:
                self._metadata[name] = data = _read_exactly(source, header.size, name)
                room -= header.size
            else:
                data = source.read(min(header.size, HEAD_BYTES))
                source.skip(_padded(header.size) - len(data), name)
            self._heads.append(data[:HEAD_BYTES])
            yield Member(name, header.size)


def _walk(source: _Source, admission: Admission) -> Iterator[tuple[_Header, str | None]]:
    """Yield each member's header and its safe name (None: nothing to keep). The caller reads or skips the content in between."""
    while (header := _next_header(source)) is not None:
        if header.kind in _FILES:
            folder = header.name.endswith("/")  # how the format before POSIX marked folders
        elif header.kind == _FOLDER:
            folder, header = True, _Header(header.name, 0, header.kind)
        else:
            kind = "a sparse file" if header.kind == _SPARSE else "a link, a device or of an unknown type"
            raise refuse("archive_member_type", f"is {kind}, not a plain file", header.name)
        yield header, admission.admit(header.name, folder=folder)
    _check_end(source)


def _next_header(source: _Source) -> _Header | None:
    """Return the next member's header with its extended headers applied; None at the end marker."""
    long_name: str | None = None
    pax: dict[str, str] = {}
    for _ in range(_MAX_HEADERS_IN_ROW + 1):
        block = source.read(_BLOCK)
        if block.count(0) == _BLOCK:
            return None
        header = _parse_header(block)
        if header.kind not in _EXTENDED:
            return _apply(header, long_name, pax)
        if header.size > _MAX_HEADER_BYTES:
            raise refuse(
                "archive_structure", f"has an extended header of {header.size} bytes, at most {_MAX_HEADER_BYTES} are read", header.name
            )
        data = _read_exactly(source, header.size, header.name)
        if header.kind == _LONG_NAME:
            long_name = _decode(data.rstrip(b"\0"))
        elif header.kind != _LONG_LINK:
            pax |= _parse_pax(data, header.name, ignore_names=header.kind == _PAX_GLOBAL)
    raise refuse("archive_structure", f"has more than {_MAX_HEADERS_IN_ROW} extended headers before one member")


def _parse_header(block: bytes) -> _Header:
    """Read one block: POSIX.1-2017 pax, `ustar Interchange Format`, table of the header block."""
    if len(block) < _BLOCK:
        raise refuse("archive_unreadable", "the archive is cut off: it has no end marker")
    # The checksum counts its own eight bytes as spaces.
    if _number(block[148:156]) != sum(block[:148]) + 8 * 0x20 + sum(block[156:]):
        raise refuse("archive_unreadable", "a header's checksum is wrong: this is no tar archive, or it is damaged")
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    kind = block[156:157]
    return _Header(_decode(prefix + b"/" + name if prefix else name), _number(block[124:136]), kind)


def _number(field: bytes) -> int:
    """Return a header's number: octal digits, or base 256 where the first bit is set (GNU, and star, for large files)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise refuse("archive_unreadable", "a header holds a number that is none: this is no tar archive, or it is damaged")
    return int(digits or b"0", 8)


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refuse("archive_path_unsafe", "has a name that is not UTF-8", raw.decode("latin-1")) from error


def _parse_pax(data: bytes, name: str, *, ignore_names: bool) -> dict[str, str]:
    """Return the records `length keyword=value` of an extended header that matter here: path and size."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at]:
        digits, _, _ = data[at : at + 8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        keyword, equals, value = record.partition(b"=")
        if length <= len(digits) or not equals or not record.endswith(b"\n"):
            raise refuse("archive_structure", "has a damaged extended header", name)
        at += length
        if keyword.startswith(b"GNU.sparse."):
            raise refuse("archive_member_type", "is a sparse file, not a plain file", name)
        if keyword in (b"path", b"size"):
            if ignore_names:
                raise refuse("archive_structure", "gives one name or size to all members", name)
            found[keyword.decode()] = _decode(value[:-1])
    return found


def _apply(header: _Header, long_name: str | None, pax: dict[str, str]) -> _Header:
    size = pax.get("size", str(header.size))
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise refuse("archive_structure", "has a size that is no number", header.name)
    return _Header(pax.get("path", long_name if long_name is not None else header.name), int(size), header.kind)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _read_exactly(source: _Source, size: int, name: str) -> bytes:
    data = source.read(_padded(size))
    if len(data) < _padded(size):
        raise _cut_off(name)
    return data[:size]


def _cut_off(name: str) -> DatasetError:
    return refuse("archive_unreadable", "the archive is cut off inside it", name)


def _check_end(source: _Source) -> None:
    """Raise DatasetError when something but zeros follows the end marker: readers differ on whether they see it."""
    while block := source.read(_BLOCK * 20):  # the usual record: writers fill the last one with zeros
        if block.count(0) != len(block):
            raise refuse("archive_structure", "there is data behind the end of the archive")
