"""Hostile archives, opened by what they are and not by what they are called."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from worker.archive_formats import HEAD_BYTES, formats_of
from worker.archive_rules import Archive, ArchiveLimits, refuse
from worker.archive_tar import TarArchive
from worker.archive_zip import ZipArchive
from worker.settings import Settings

# A gzipped tar has no directory: its headers lie between the contents. This much of it is looked at before the upload is accepted.
GLANCE_BYTES = 32 * 2**20

_BUILDERS: Final[Mapping[str, Callable[[Path, ArchiveLimits], Archive]]] = {
    "zip": ZipArchive,
    "tar": lambda path, limits: TarArchive(path, limits, gzipped=False),
    "tar.gz": lambda path, limits: TarArchive(path, limits, gzipped=True),
}
FORMATS: Final = tuple(_BUILDERS)


def limits_of(settings: Settings) -> ArchiveLimits:
    """Return the limits in force."""
    return ArchiveLimits(
        max_members=settings.max_members,
        max_expanded_bytes=settings.max_expanded_bytes,
        max_member_bytes=settings.max_member_bytes,
        max_ratio=settings.max_archive_ratio,
    )


def sniff_format(path: Path) -> str | None:
    """Return "zip", "tar" or "tar.gz" by the first bytes, None for others. Raises DatasetError (archive_ambiguous) for two at once."""
    with path.open("rb") as file:
        found = formats_of(file.read(HEAD_BYTES))
        if "tar" in found and ("zip" in found or _ends_like_zip(file)):
            raise refuse("archive_ambiguous", "the file is a tar archive and a zip archive at once")
    return found[0] if found else None


def open_archive(path: Path, upload_format: str, limits: ArchiveLimits) -> Archive:
    """Open an archive of one of FORMATS and check its whole directory.

    Raises DatasetError with a code archive_*: the message names the member and the rule that it breaks.
    """
    _check_format(path, upload_format)
    return _BUILDERS[upload_format](path, limits)


def inspect_archive(path: Path, upload_format: str, limits: ArchiveLimits) -> None:
    """Check what can be checked at once: the directory, or the first GLANCE_BYTES of a gzipped tar. Raises as open_archive."""
    _check_format(path, upload_format)
    if upload_format == "tar.gz":
        TarArchive(path, limits, gzipped=True, allowance=GLANCE_BYTES)
    else:
        _BUILDERS[upload_format](path, limits)


def _check_format(path: Path, upload_format: str) -> None:
    if upload_format not in _BUILDERS:
        raise refuse("archive_format", f"archives of the format {upload_format!r} are not read", hint=f"Send one of {', '.join(FORMATS)}.")
    found = sniff_format(path)
    if found != upload_format:
        told = f"a {found} archive" if found else "no archive"
        raise refuse(
            "archive_format",
            f"the upload was announced as {upload_format}, but its bytes are {told}",
            hint=f"Send one of {', '.join(FORMATS)}.",
        )


def _ends_like_zip(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**16 - 22))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    return 0 <= at <= len(tail) - 22 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)
