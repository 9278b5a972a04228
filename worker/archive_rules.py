"""What is asked of every archive, whatever its format: safe and unique names, a bounded count, bounded bytes.

No member's name ever becomes a path here: names are looked at, labels are taken from them, and that is all.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from models.config import clean_text
from models.errors import DatasetError

MAX_DEPTH = 8  # folders and file name together
MAX_PART_BYTES = 255  # what file systems allow, so that a name can be given back to its owner
MAX_METADATA_BYTES = 32 * 2**20
RATIO_FREE_BYTES = 16 * 2**20  # silence and flat pictures compress a thousandfold: small archives are not judged by ratio
HEAD_BYTES = 16
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")

_DRIVE = re.compile(r"^[A-Za-z]:")
_JUNK_NAMES = {".ds_store", "thumbs.db", "desktop.ini"}
_JUNK_FOLDER = "__MACOSX"
_BACKSLASH_HINT = "Write the archive with forward slashes: old .NET tools and some Windows scripts put backslashes into names."
_DUPLICATE_HINT = "Names must differ by more than case and Unicode normalization; rename one of the two."


@dataclass(frozen=True)
class ArchiveLimits:
    """How much one archive may hold; sizes in bytes."""

    max_members: int
    max_expanded_bytes: int
    max_member_bytes: int
    max_ratio: float


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: a safe name in NFC with forward slashes, and its expanded size in bytes as declared."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """A member's bytes, or the reason code for which there are none."""

    member: Member
    data: bytes
    reason: str | None = None


class Archive(Protocol):
    """An archive whose directory has been checked. Files only; operating systems' leftovers are counted, not listed."""

    members: tuple[Member, ...]
    ignored: int

    def contents(self) -> Iterator[Content]:
        """Read the members one by one, in the archive's order. Raises DatasetError for what shows only here."""

    def read(self, member: Member) -> bytes:
        """Return the whole content of a metadata file. Raises DatasetError if it is damaged or above MAX_METADATA_BYTES."""

    def heads(self, count: int) -> list[bytes]:
        """Return the first bytes of up to `count` members, spread evenly over the archive."""


def shown(name: str) -> str:
    """Return `name` quoted for a message: control and direction characters escaped, long names shortened."""
    return repr(name if len(name) <= 120 else name[:117] + "…")


def refuse(code: str, message: str, name: str | None = None, hint: str | None = None) -> DatasetError:
    """Return the error that refuses a whole archive; `name` is the member that broke the rule."""
    prefix = f"member {shown(name)}: " if name is not None else ""
    return DatasetError(prefix + message, code=code, param=name[:255] if name is not None else None, hint=hint)


def safe_parts(name: str) -> list[str]:
    """Return the parts of a member's name in NFC. Raises DatasetError (archive_path_unsafe) naming the rule that it breaks."""
    try:
        name = clean_text(name)
    except ValueError as error:
        raise refuse("archive_path_unsafe", str(error), name) from error
    if "\\" in name:
        raise refuse("archive_path_unsafe", "has a backslash in its name", name, _BACKSLASH_HINT)
    if name.startswith("/") or _DRIVE.match(name):
        raise refuse("archive_path_unsafe", "has an absolute path", name)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refuse("archive_path_unsafe", "leads out of the archive with '..'", name)
    if len(parts) > MAX_DEPTH:
        raise refuse("archive_path_unsafe", f"lies {len(parts)} levels deep, at most {MAX_DEPTH} are allowed", name)
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise refuse("archive_path_unsafe", f"has a part of more than {MAX_PART_BYTES} bytes in its name", name)
    return parts


def is_junk(parts: list[str]) -> bool:
    """Return whether a file is what macOS or Windows leaves behind in folders."""
    return _JUNK_FOLDER in parts or parts[-1].startswith("._") or parts[-1].casefold() in _JUNK_NAMES


class Admission:
    """Takes the names of an archive one after another and keeps its files."""

    def __init__(self, limits: ArchiveLimits) -> None:
        """Begin with no members."""
        self._limits = limits
        self._seen: set[str] = set()
        self._count = 0
        self.ignored = 0

    def admit(self, raw_name: str, *, folder: bool) -> str | None:
        """Return the safe name of a file to keep, None for a folder or a leftover.

        Raises DatasetError: archive_too_many_members, archive_path_unsafe, archive_duplicate_name.
        """
        self._count += 1
        check_count(self._count, self._limits)
        parts = safe_parts(raw_name)
        if folder or not parts:
            return None
        if is_junk(parts):
            self.ignored += 1
            return None
        name = "/".join(parts)
        key = unicodedata.normalize("NFC", name.casefold())
        if key in self._seen:
            raise refuse("archive_duplicate_name", "comes twice", name, _DUPLICATE_HINT)
        self._seen.add(key)
        return name


def check_count(count: int, limits: ArchiveLimits) -> None:
    """Raise DatasetError (archive_too_many_members) when `count` is above the limit."""
    if count > limits.max_members:
        raise refuse("archive_too_many_members", f"the archive has more than {limits.max_members} members")


class Budget:
    """Counts bytes as they are expanded, whatever headers said of them."""

    def __init__(self, limits: ArchiveLimits, stored_bytes: int) -> None:
        """`stored_bytes` is the archive's own size."""
        self._limits = limits
        self._stored = max(stored_bytes, 1)
        self._spent = 0

    def spend(self, count: int, name: str | None = None) -> None:
        """Count `count` expanded bytes. Raises DatasetError: archive_too_large, archive_ratio."""
        self._spent += count
        if self._spent > self._limits.max_expanded_bytes:
            raise refuse("archive_too_large", f"expands to more than {self._limits.max_expanded_bytes} bytes", name)
        if self._spent > RATIO_FREE_BYTES and self._spent > self._limits.max_ratio * self._stored:
            raise refuse("archive_ratio", f"expands to more than {self._limits.max_ratio:g} times its size", name)


def spread(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` indices below `count`, evenly spread."""
    if count <= wanted:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]
