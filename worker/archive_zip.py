"""Zip archives, read by the central directory alone.

A reader of its own, because the standard library's believes local headers, cuts names at NUL, opens encrypted and exotic members,
and spends 50 µs on each member where this one spends 10. Format: PKWARE APPNOTE 6.3.10, the section numbers below are its own.
Only stored and deflated members; data descriptors are allowed, as streaming writers need them (macOS Finder among them).
"""

import dataclasses
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from models.errors import DatasetError
from worker.archive_rules import (
    HEAD_BYTES,
    MAX_METADATA_BYTES,
    Admission,
    ArchiveLimits,
    Budget,
    Content,
    Member,
    check_count,
    refuse,
    spread,
)

_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_CENTRAL = struct.Struct("<4s2BHHHHHLLLHHHHHLL")  # 4.3.12
_END = struct.Struct("<4s4H2LH")  # 4.3.16
_LOCATOR = struct.Struct("<4sLQL")  # 4.3.15
_END64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_MAX_COMMENT = 2**16 - 1
_MAX_ENTRY_BYTES = 1024  # a fair mean of one directory entry: the directory is read in one piece
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # 4.4.4: bits 0, 6 and 13
_PATCH = 0x20
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_UNIX_SYSTEMS = (3, 19)  # 4.4.2: Unix, OS X; only there the upper attributes are a Unix mode
_ZIP64_EXTRA = 0x0001
_CHUNK = 2**20
_SLACK = 64  # most local headers have shorter extra fields: one read fetches header and content


@dataclass(frozen=True, slots=True)
class _Entry:
    member: Member
    raw_name: bytes
    method: int
    crc: int
    stored: int
    offset: int
    limit: int  # where the next member, or the directory, begins


@dataclass(frozen=True)
class _Directory:
    offset: int
    size: int
    count: int


class ZipArchive:
    """A zip file whose directory keeps all rules; see worker.archive_rules.Archive."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        """Read and check the directory. Raises DatasetError with a code archive_*, naming member and rule."""
        self._path = path
        self._limits = limits
        with path.open("rb") as file:
            directory = _find_directory(file, limits)
            file.seek(directory.offset)
            self._admission = Admission(limits)
            entries = _with_limits(list(_parse_directory(file.read(directory.size), directory.count)), directory.offset)
            self._budget_of_declared(entries)
            self._entries = [kept for entry in entries if (kept := self._admit(entry)) is not None]
        self.members: tuple[Member, ...] = tuple(entry.member for entry in self._entries)
        self.ignored = self._admission.ignored
        self._by_name = {entry.member.name: entry for entry in self._entries}

    def contents(self) -> Iterator[Content]:
        """Read the members one by one; see Archive.contents."""
        budget = self._new_budget()
        with self._path.open("rb") as file:
            for entry in self._entries:
                if entry.member.size > self._limits.max_member_bytes:
                    yield Content(entry.member, b"", "file_too_large")
                    continue
                budget.spend(entry.member.size, entry.member.name)
                data = _expand(file.fileno(), entry, entry.member.size)
                intact = len(data) == entry.member.size and zlib.crc32(data) == entry.crc
                yield Content(entry.member, data, None) if intact else Content(entry.member, b"", "file_damaged")

    def read(self, member: Member) -> bytes:
        """Return a metadata file; see Archive.read."""
        if member.size > MAX_METADATA_BYTES:
            raise DatasetError(f"{member.name} has more than {MAX_METADATA_BYTES} bytes", code="metadata_too_large", param=member.name)
        entry = self._by_name[member.name]
        with self._path.open("rb") as file:
            data = _expand(file.fileno(), entry, member.size)
        if len(data) != member.size or zlib.crc32(data) != entry.crc:
            raise DatasetError(f"{member.name} is damaged in the archive", code="metadata_unreadable", param=member.name)
        return data

    def heads(self, count: int) -> list[bytes]:
        """Return first bytes; see Archive.heads."""
        with self._path.open("rb") as file:
            return [_expand(file.fileno(), self._entries[index], HEAD_BYTES, whole=False) for index in spread(len(self._entries), count)]

    def _new_budget(self) -> Budget:
        return Budget(self._limits, self._path.stat().st_size)

    def _budget_of_declared(self, entries: list[_Entry]) -> None:
        # Members above the limit for one file are never expanded, but what they declare counts: that is how a bomb is known at once.
        budget = self._new_budget()
        for entry in entries:
            budget.spend(entry.member.size, entry.member.name)

    def _admit(self, entry: _Entry) -> _Entry | None:
        raw = entry.member.name
        name = self._admission.admit(raw, folder=raw.endswith("/"))
        if name is None:
            return None
        return _Entry(Member(name, entry.member.size), entry.raw_name, entry.method, entry.crc, entry.stored, entry.offset, entry.limit)


def _find_directory(file: BinaryIO, limits: ArchiveLimits) -> _Directory:
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _END.size - _MAX_COMMENT)
    file.seek(start)
    tail = file.read()
    # The comment must end with the file, or there is data behind the archive. Two such places: readers would disagree which archive it is.
    ends = [
        at for at in _positions(tail, b"PK\5\6") if at + _END.size <= len(tail) and at + _END.size + _comment_length(tail, at) == len(tail)
    ]
    if not ends:
        raise refuse("archive_unreadable", "no end of a zip directory was found: the archive is cut off or has data behind its end")
    if len(ends) > 1:
        raise refuse("archive_structure", "the archive has more than one end of directory")
    _, disk, first_disk, here, count, length, offset, _ = _END.unpack_from(tail, ends[0])
    end, directory = start + ends[0], _Directory(offset, length, count)
    if (wide := _find_wide_directory(file, end)) is not None:
        narrow_known = (length, 0xFFFFFFFF), (offset, 0xFFFFFFFF), (count, 0xFFFF)
        for (value, unknown), truth in zip(narrow_known, (wide[1].size, wide[1].offset, wide[1].count), strict=True):
            if value not in (unknown, truth):
                raise refuse("archive_structure", "its two ends of directory contradict each other")
        end, directory = wide
    elif (disk, first_disk, here) != (0, 0, count):
        raise refuse("archive_structure", "is one part of a split archive")
    check_count(directory.count, limits)
    if directory.offset + directory.size != end or directory.size > limits.max_members * _MAX_ENTRY_BYTES:
        raise refuse("archive_structure", "its directory is not where its end says: there is data in front of or inside the archive")
    return directory


def _positions(tail: bytes, signature: bytes) -> Iterator[int]:
    at = tail.find(signature)
    while at >= 0:
        yield at
        at = tail.find(signature, at + 1)


def _comment_length(tail: bytes, at: int) -> int:
    return int.from_bytes(tail[at + _END.size - 2 : at + _END.size], "little")


def _find_wide_directory(file: BinaryIO, end: int) -> tuple[int, _Directory] | None:
    """Return where a zip64 end record begins, and what it says; None without one."""
    if end < _LOCATOR.size + _END64.size:
        return None
    file.seek(end - _LOCATOR.size)
    signature, disk, offset, disks = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if signature != b"PK\6\7":
        return None
    if disk != 0 or disks != 1 or offset > end - _LOCATOR.size - _END64.size:
        raise refuse("archive_structure", "its zip64 locator points nowhere")
    file.seek(offset)
    signature, length, _, _, disk, first_disk, here, count, size, start = _END64.unpack(file.read(_END64.size))
    if signature != b"PK\6\6" or offset + 12 + length != end - _LOCATOR.size or (disk, first_disk, here) != (0, 0, count):
        raise refuse("archive_structure", "its zip64 end of directory is damaged")
    return offset, _Directory(start, size, count)


def _parse_directory(data: bytes, count: int) -> Iterator[_Entry]:
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(data) or data[at : at + 4] != b"PK\1\2":
            raise refuse("archive_structure", "its directory has fewer entries than it says")
        fields = _CENTRAL.unpack_from(data, at)
        name_length, extra_length, comment_length = fields[11:14]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_length
        at = extra_at + extra_length + comment_length
        yield _parse_entry(fields, data[name_at:extra_at], data[extra_at : extra_at + extra_length])
    if at != len(data):
        raise refuse("archive_structure", "its directory has more entries than it says")


def _parse_entry(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> _Entry:
    _, _, system, _, flags, method, _, _, crc, stored, size, _, _, _, disk, _, attributes, offset = fields
    name = _decode_name(raw_name, flags)
    if flags & _ENCRYPTED:
        raise refuse("archive_method_unsupported", "is encrypted", name, "Write the archive without a password.")
    if method not in (_STORED, _DEFLATED) or flags & _PATCH:
        raise refuse("archive_method_unsupported", f"is compressed by method {method}; only store (0) and deflate (8) are read", name)
    kind = stat.S_IFMT(attributes >> 16) if system in _UNIX_SYSTEMS else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise refuse("archive_member_type", "is a link or a device, not a file", name)
    size, stored, offset = _widen(name, extra, size, stored, offset)
    if disk not in (0, 0xFFFF) or (method == _STORED and stored != size):
        raise refuse("archive_structure", "its directory entry contradicts itself", name)
    return _Entry(Member(name, size), raw_name, method, crc, stored, offset, 0)


def _decode_name(raw: bytes, flags: int) -> str:
    # Finder and Info-ZIP write UTF-8 without saying so; what is no UTF-8 can only be the format's old default, code page 437.
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        name = raw.decode("cp437")
        if flags & _UTF8:
            raise refuse("archive_path_unsafe", "says that its name is UTF-8, and it is not", name) from error
        return name


def _widen(name: str, extra: bytes, *narrow: int) -> tuple[int, int, int]:
    """Return size, stored size and offset with the zip64 field (4.5.3) in place of those that do not fit 32 bits."""
    values = list(narrow)
    if 0xFFFFFFFF not in values:
        return values[0], values[1], values[2]
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        field = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if tag != _ZIP64_EXTRA:
            continue
        for index, value in enumerate(values):
            if value == 0xFFFFFFFF and len(field) >= 8:
                values[index], field = int.from_bytes(field[:8], "little"), field[8:]
    if 0xFFFFFFFF in values:
        raise refuse("archive_structure", "lacks the zip64 sizes that it announces", name)
    return values[0], values[1], values[2]


def _with_limits(entries: list[_Entry], directory_offset: int) -> list[_Entry]:
    """Return the entries in the directory's order, each with the place where the next one's bytes begin.

    Raises DatasetError (archive_overlap): members that share bytes expand quadratically (Fifield, A better zip bomb, 2019).
    """
    order = sorted(range(len(entries)), key=lambda index: entries[index].offset)
    limits = [0] * len(entries)
    following = directory_offset
    for index in reversed(order):
        entry = entries[index]
        if entry.offset + _LOCAL.size + len(entry.raw_name) + entry.stored > following:
            raise refuse("archive_overlap", "shares bytes with another member or with the directory", entry.member.name)
        limits[index], following = following, entry.offset
    return [dataclasses.replace(entry, limit=limit) for entry, limit in zip(entries, limits, strict=True)]


def _expand(descriptor: int, entry: _Entry, wanted: int, *, whole: bool = True) -> bytes:
    """Return up to `wanted` bytes of a member. Raises DatasetError when the local header lies or more comes out than was declared."""
    name = entry.member.name
    block = os.pread(descriptor, _LOCAL.size + len(entry.raw_name) + _SLACK + min(entry.stored, _CHUNK), entry.offset)
    if len(block) < _LOCAL.size or block[:4] != b"PK\3\4":
        raise refuse("archive_structure", "its local header is not where the directory says", name)
    name_length, extra_length = _LOCAL.unpack_from(block)[9:11]
    if block[_LOCAL.size : _LOCAL.size + name_length] != entry.raw_name:
        raise refuse("archive_structure", "has another name in its local header than in the directory", name)
    header = _LOCAL.size + name_length + extra_length
    if entry.offset + header + entry.stored > entry.limit:
        raise refuse("archive_overlap", "shares bytes with another member or with the directory", name)
    if entry.method == _STORED:
        length = min(entry.stored, wanted)
        data = block[header : header + length]
        return data if len(data) == length else os.pread(descriptor, length, entry.offset + header)
    return _inflate(descriptor, entry, header, wanted, whole=whole)


def _inflate(descriptor: int, entry: _Entry, header: int, wanted: int, *, whole: bool) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, made, at, end = [], 0, entry.offset + header, entry.offset + header + entry.stored
    try:
        while at < end and not inflater.eof and made <= wanted:
            chunk = os.pread(descriptor, min(_CHUNK, end - at), at)
            if not chunk:
                break
            at += len(chunk)
            parts.append(inflater.decompress(chunk, wanted + 1 - made))
            made += len(parts[-1])
    except zlib.error:
        return b""  # shorter than declared: the caller marks this one file as damaged
    if whole and made > wanted:
        raise refuse("archive_size_mismatch", f"expands to more than the {wanted} bytes that it declares", entry.member.name)
    return b"".join(parts)[:wanted]
