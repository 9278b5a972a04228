"""Archives that a client may send: a table of those refused, with the code of each, and of those taken, with what is read from them."""

import gzip
import io
import os
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.errors import DatasetError
from tests.conftest import FUZZ_FACTOR
from worker.archive_rules import Archive, ArchiveLimits, spread
from worker.archives import FORMATS, inspect_archive, open_archive, sniff_format

LIMITS = ArchiveLimits(max_members=50, max_expanded_bytes=64 * 2**20, max_member_bytes=2**20, max_ratio=200.0)
GOOD = {"yes/1.wav": b"one" * 100, "no/2.wav": b"two" * 100}


# Builders. zipfile and tarfile write what is legal; the rest is made by changing bytes.


def zipped(files: dict[str, bytes] | None = None, *, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in (files or GOOD).items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
        archive.comment = comment
    return sink.getvalue()


def zip_named(name: str) -> bytes:
    """A zip with a member of exactly this name: zipfile itself would clean it."""
    placeholder = "x" * len(name.encode())
    return zipped({**GOOD, placeholder: b"data"}).replace(placeholder.encode(), name.encode())


def zip_attributes(mode: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        entry = zipfile.ZipInfo("yes/link.wav")
        entry.create_system, entry.external_attr = 3, mode << 16
        archive.writestr(entry, b"/etc/passwd")
    return sink.getvalue()


def patched(data: bytes, offset: int, layout: str, value: int, *, entry: int = 0) -> bytes:
    """Change a field of the directory's entry number `entry`; offsets as in APPNOTE 4.3.12."""
    changed = bytearray(data)
    at = -1
    for _ in range(entry + 1):
        at = changed.index(b"PK\1\2", at + 1)
    struct.pack_into(layout, changed, at + offset, value)
    return bytes(changed)


def end_patched(data: bytes, offset: int, layout: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, changed.rindex(b"PK\5\6") + offset, value)
    return bytes(changed)


def renamed_locally() -> bytes:
    return zipped().replace(b"yes/1.wav", b"yes/9.wav", 1)  # the first place is the local header


def overlapping() -> bytes:
    """Both entries of the directory name the first member's bytes: Fifield's bomb in its simplest form."""
    return patched(zipped({"yes/1.wav": b"1" * 100, "yes/2.wav": b"1" * 100}), 42, "<L", 0, entry=1)


def lying(declared: int) -> bytes:
    return patched(zipped({"yes/1.wav": b"1" * 5000}), 24, "<L", declared)


def wide_zip() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in GOOD.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    return sink.getvalue()


class Pipe(io.RawIOBase):
    """A sink that can't seek, so that zipfile writes data descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.sink = io.BytesIO()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # zipfile hands over bytes
        return self.sink.write(data)


def streamed_zip() -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in GOOD.items():
            archive.writestr(name, data)
    return pipe.sink.getvalue()


def tarred(files: dict[str, bytes] | None = None, *, form: int = tarfile.PAX_FORMAT, headers: dict[str, str] | None = None) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        for name, data in (files or GOOD).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.pax_headers = headers or {}
            archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def tar_of_kind(kind: bytes, target: str = "") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        entry = tarfile.TarInfo("yes/odd.wav")
        entry.type, entry.linkname = kind, target
        archive.addfile(entry)
    return sink.getvalue()


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """One hand-made header with a right checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % (sum(block) + 8 * 32)
    return bytes(block)


def global_path() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "all/the/same"}) as archive:
        archive.addfile(tarfile.TarInfo("yes/1.wav"))
    return sink.getvalue()


def zip_in_tar() -> bytes:
    """Both at once: a tar whose only member is followed by a whole zip that ends the file."""
    return tarred() + zipped()


END = b"\0" * 1024
ZIP_REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "slip": (lambda: zip_named("../evil.wav"), "archive_path_unsafe"),
    "slip inside": (lambda: zip_named("a/../../b.wav"), "archive_path_unsafe"),
    "absolute": (lambda: zip_named("/abs.wav"), "archive_path_unsafe"),
    "drive": (lambda: zip_named("C:/x.wav"), "archive_path_unsafe"),
    "backslash": (lambda: zip_named("a\\..\\b.wav"), "archive_path_unsafe"),
    "NUL": (lambda: zip_named("yes/1\0.wav"), "archive_path_unsafe"),
    "newline": (lambda: zip_named("yes/1\n.wav"), "archive_path_unsafe"),
    "direction mark": (lambda: zip_named("yes/\u202egpj.wav"), "archive_path_unsafe"),
    "too deep": (lambda: zip_named("a/b/c/d/e/f/g/h/i.wav"), "archive_path_unsafe"),
    "long part": (lambda: zip_named("y" * 256 + "/1.wav"), "archive_path_unsafe"),
    "no UTF-8, but says so": (lambda: zipped({"yes/\u00e9": b""}).replace("\u00e9".encode(), b"\xe9\xe9"), "archive_path_unsafe"),
    "case twice": (lambda: zipped({"yes/A.wav": b"1", "yes/a.wav": b"2"}), "archive_duplicate_name"),
    "NFC twice": (lambda: zipped({"y/e\u0301": b"1", "y/\u00e9": b"2"}), "archive_duplicate_name"),
    "name twice": (lambda: zipped({"yes/a": b"1", "yes/b": b"2"}).replace(b"yes/b", b"yes/a"), "archive_duplicate_name"),
    "symlink": (lambda: zip_attributes(0o120777), "archive_member_type"),
    "device": (lambda: zip_attributes(0o020666), "archive_member_type"),
    "encrypted": (lambda: patched(zipped(), 8, "<H", 0x1), "archive_method_unsupported"),
    "strongly encrypted": (lambda: patched(zipped(), 8, "<H", 0x41), "archive_method_unsupported"),
    "bzip2": (lambda: zipped(method=zipfile.ZIP_BZIP2), "archive_method_unsupported"),
    "lzma": (lambda: zipped(method=zipfile.ZIP_LZMA), "archive_method_unsupported"),
    "too many": (lambda: zipped({f"yes/{i}": b"" for i in range(51)}), "archive_too_many_members"),
    "says too many": (lambda: end_patched(end_patched(zipped(), 8, "<H", 60000), 10, "<H", 60000), "archive_too_many_members"),
    "declares too much": (lambda: lying(2**31), "archive_too_large"),
    "ratio": (lambda: lying(20 * 2**20), "archive_ratio"),
    "overlap": (overlapping, "archive_overlap"),
    "into the directory": (lambda: patched(zipped(), 20, "<L", 10_000, entry=1), "archive_overlap"),
    "prefix": (lambda: b"MZ junk before" + zipped(), "archive_format"),
    "prefix like a zip": (lambda: b"PK\3\4" + zipped(), "archive_structure"),
    "suffix": (lambda: zipped() + b"trailing", "archive_unreadable"),
    "cut": (lambda: zipped()[:-10], "archive_unreadable"),
    "two ends": (lambda: zipped(comment=zipped()[-22:]), "archive_structure"),
    "says fewer": (lambda: end_patched(end_patched(zipped(), 8, "<H", 1), 10, "<H", 1), "archive_structure"),
    "says more": (lambda: end_patched(end_patched(zipped(), 8, "<H", 3), 10, "<H", 3), "archive_structure"),
    "split": (lambda: end_patched(zipped(), 4, "<H", 1), "archive_structure"),
    "stored of two sizes": (lambda: patched(zipped(method=zipfile.ZIP_STORED), 24, "<L", 7), "archive_structure"),
    "zip64 without sizes": (lambda: patched(zipped(), 24, "<L", 0xFFFFFFFF), "archive_structure"),
}
ZIP_REFUSED_WHILE_READING: dict[str, tuple[Callable[[], bytes], str]] = {
    "more than declared": (lambda: lying(10), "archive_size_mismatch"),
    "another local name": (renamed_locally, "archive_structure"),
    "no local header": (lambda: b"PK\3\5".join(zipped().rsplit(b"PK\3\4", 1)), "archive_structure"),
}
TAR_REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "slip": (lambda: tarred({"../evil.wav": b"1"}), "archive_path_unsafe"),
    "absolute": (lambda: tarred({"/abs.wav": b"1"}), "archive_path_unsafe"),
    "no UTF-8": (lambda: tar_header(b"yes/\xe9.wav", b"00000000000") + END, "archive_path_unsafe"),
    "path in a pax header": (lambda: tarred({"a": b"1"}, headers={"path": "../evil"}), "archive_path_unsafe"),
    "path for all": (global_path, "archive_structure"),
    "symlink": (lambda: tar_of_kind(tarfile.SYMTYPE, "/etc/passwd"), "archive_member_type"),
    "hard link": (lambda: tar_of_kind(tarfile.LNKTYPE, "../x"), "archive_member_type"),
    "device": (lambda: tar_of_kind(tarfile.CHRTYPE), "archive_member_type"),
    "pipe": (lambda: tar_of_kind(tarfile.FIFOTYPE), "archive_member_type"),
    "GNU sparse": (lambda: tar_header(b"yes/1", b"00000000000", b"S") + END, "archive_member_type"),
    "pax sparse": (lambda: tarred({"yes/1": b"1"}, headers={"GNU.sparse.major": "1"}), "archive_member_type"),
    "twice": (lambda: tarred({"yes/A": b"1", "yes/a": b"2"}), "archive_duplicate_name"),
    "too many": (lambda: tarred({f"yes/{i}": b"" for i in range(51)}), "archive_too_many_members"),
    "large by its header": (lambda: tar_header(b"yes/1", b"\x80" + (2**40).to_bytes(11, "big")) + END, "archive_too_large"),
    "negative size": (lambda: tar_header(b"yes/1", b"\xff" * 12) + END, "archive_structure"),
    "long extended header": (lambda: tar_header(b"x", b"00000400000", b"x") + END, "archive_structure"),
    "headers without end": (lambda: tar_header(b"x", b"00000000000", b"L") * 9 + END, "archive_structure"),
    "damaged pax header": (lambda: tar_header(b"x", b"00000000007", b"x") + b"9 pat=x".ljust(512, b"\0") + END, "archive_structure"),
    "cut in a member": (lambda: tarred({"yes/1": b"1" * 5000})[:2000], "archive_unreadable"),
    "no end": (lambda: tarred()[:2048], "archive_unreadable"),
    "checksum": (lambda: tarred().replace(b"yes/1.wav", b"yes/9.wav", 1), "archive_unreadable"),
    "size of letters": (lambda: tar_header(b"yes/1", b"zzzzzzzzzzz") + END, "archive_unreadable"),
    "data behind the end": (lambda: tarred() + b"more".ljust(512, b"\0"), "archive_structure"),
    "zip as well": (zip_in_tar, "archive_ambiguous"),
}
GZIPPED_CODES = {
    "zip as well": "archive_structure",  # inside the gzip stream no zip reader finds it
    "large by its header": "archive_unreadable",  # counted as it is read, and it ends long before
}
TAKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip": (zipped, "zip"),
    "stored zip": (lambda: zipped(method=zipfile.ZIP_STORED), "zip"),
    "zip with a comment": (lambda: zipped(comment=b"made by hand"), "zip"),
    "zip with data descriptors": (streamed_zip, "zip"),
    "zip64": (wide_zip, "zip"),
    "zip with leftovers": (lambda: zipped({**GOOD, "__MACOSX/yes/._1.wav": b"x", "yes/.DS_Store": b"x", "Thumbs.db": b"x"}), "zip"),
    "zip with folders": (lambda: zipped({"yes/": b"", "empty/": b"", **GOOD}), "zip"),
    "ustar": (lambda: tarred(form=tarfile.USTAR_FORMAT), "tar"),
    "GNU tar": (lambda: tarred(form=tarfile.GNU_FORMAT), "tar"),
    "pax tar": (lambda: tarred(headers={"comment": "x" * 300}), "tar"),
    "tar with ./": (lambda: tarred({f"./{name}": data for name, data in GOOD.items()}), "tar"),
    "gzipped tar": (lambda: gzip.compress(tarred()), "tar.gz"),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def writer(data: bytes) -> Path:
        path = tmp_path / "archive"
        path.write_bytes(data)
        return path

    return writer


def read_all(archive: Archive) -> dict[str, bytes]:
    return {content.member.name: content.data for content in archive.contents() if content.reason is None}


@pytest.mark.parametrize("case", ZIP_REFUSED)
def test_zip_is_refused_at_once(write: Callable[[bytes], Path], case: str) -> None:
    build, code = ZIP_REFUSED[case]
    with pytest.raises(DatasetError) as caught:
        inspect_archive(write(build()), "zip", LIMITS)
    assert caught.value.code == code
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("case", ZIP_REFUSED_WHILE_READING)
def test_zip_is_refused_while_it_is_read(write: Callable[[bytes], Path], case: str) -> None:
    build, code = ZIP_REFUSED_WHILE_READING[case]
    with pytest.raises(DatasetError) as caught:
        read_all(open_archive(write(build()), "zip", LIMITS))
    assert caught.value.code == code


@pytest.mark.parametrize("upload_format", ["tar", "tar.gz"])
@pytest.mark.parametrize("case", TAR_REFUSED)
def test_tar_is_refused_at_once(write: Callable[[bytes], Path], case: str, upload_format: str) -> None:
    build, code = TAR_REFUSED[case]
    data = build()
    if upload_format == "tar.gz":
        code = GZIPPED_CODES.get(case, code)
        data = gzip.compress(data)
    with pytest.raises(DatasetError) as caught:
        inspect_archive(write(data), upload_format, LIMITS)
    assert caught.value.code == code
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("case", TAKEN)
def test_legal_archives_are_read(write: Callable[[bytes], Path], case: str) -> None:
    build, upload_format = TAKEN[case]
    path = write(build())
    assert sniff_format(path) == upload_format
    inspect_archive(path, upload_format, LIMITS)
    archive = open_archive(path, upload_format, LIMITS)
    assert read_all(archive) == GOOD
    assert [(member.name, member.size) for member in archive.members] == [(name, len(data)) for name, data in GOOD.items()]
    assert archive.ignored == (3 if "leftovers" in case else 0)
    assert archive.heads(10) == [data[:16] for data in GOOD.values()]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_both_tar_dialects_are_read(write: Callable[[bytes], Path], form: int) -> None:
    name = "y" * 120 + "/" + "\u00e9" * 60 + ".wav"
    assert read_all(open_archive(write(tarred({name: b"1"}, form=form)), "tar", LIMITS)) == {name: b"1"}


def test_a_name_comes_back_in_nfc(write: Callable[[bytes], Path]) -> None:
    (member,) = open_archive(write(zipped({"se/caf\u0065\u0301.wav": b"1"})), "zip", LIMITS).members
    assert member.name == unicodedata.normalize("NFC", member.name) == "se/caf\u00e9.wav"


def test_an_old_zip_name_is_code_page_437(write: Callable[[bytes], Path]) -> None:
    data = zipped({"yes/XX.wav": b"1"}).replace(b"XX", b"\x81\x82")
    (member,) = open_archive(write(data), "zip", LIMITS).members
    assert member.name == "yes/\u00fc\u00e9.wav"


@pytest.mark.parametrize("upload_format", FORMATS)
def test_a_large_member_is_passed_over(write: Callable[[bytes], Path], upload_format: str) -> None:
    files = {"yes/big.wav": os.urandom(2**20 + 1), **GOOD}
    data = zipped(files) if upload_format == "zip" else tarred(files)
    path = write(gzip.compress(data) if upload_format == "tar.gz" else data)
    found = list(open_archive(path, upload_format, LIMITS).contents())
    assert (found[0].member.name, found[0].reason) == ("yes/big.wav", "file_too_large")
    assert {content.member.name: content.data for content in found[1:]} == GOOD


def test_a_damaged_zip_member_costs_only_itself(write: Callable[[bytes], Path]) -> None:
    data = zipped(method=zipfile.ZIP_STORED).replace(b"oneone", b"onEone", 1)
    found = {content.member.name: content.reason for content in open_archive(write(data), "zip", LIMITS).contents()}
    assert found == {"yes/1.wav": "file_damaged", "no/2.wav": None}


def test_a_broken_deflate_stream_costs_only_its_member(write: Callable[[bytes], Path]) -> None:
    plain = zipped()
    deflated = zlib.compressobj(wbits=-15)
    body = deflated.compress(GOOD["yes/1.wav"]) + deflated.flush()
    at = plain.index(b"yes/1.wav") + len(b"yes/1.wav")
    assert plain[at : at + len(body)] == body
    data = plain[:at] + b"\xff" * len(body) + plain[at + len(body) :]
    found = {content.member.name: content.reason for content in open_archive(write(data), "zip", LIMITS).contents()}
    assert found == {"yes/1.wav": "file_damaged", "no/2.wav": None}


def test_a_bomb_of_gzip_ends_at_the_limit(write: Callable[[bytes], Path]) -> None:
    path = write(gzip.compress(tarred({"yes/zeros": bytes(70 * 2**20)}), 9))
    assert path.stat().st_size < 100_000
    with pytest.raises(DatasetError) as caught:
        inspect_archive(path, "tar.gz", LIMITS)
    assert caught.value.code == "archive_ratio"


@pytest.mark.parametrize("damage", ["cut", "checksum", "junk"])
def test_a_damaged_gzip_stream_is_refused(write: Callable[[bytes], Path], damage: str) -> None:
    data = gzip.compress(tarred())
    data = {"cut": data[:-20], "checksum": data[:-8] + bytes(8), "junk": data + b"junk"}[damage]
    with pytest.raises(DatasetError) as caught:
        open_archive(write(data), "tar.gz", LIMITS)
    assert caught.value.code == "archive_unreadable"


def test_metadata_is_read_whole(write: Callable[[bytes], Path]) -> None:
    text = b"file_name,label\n1.wav,yes\n" * 1000
    files = {"top/train/metadata.csv": text, **GOOD}
    for upload_format, data in (("zip", zipped(files)), ("tar", tarred(files))):
        archive = open_archive(write(data), upload_format, LIMITS)
        assert archive.read(archive.members[0]) == text, upload_format


def test_metadata_that_a_tar_holds_too_much_of_is_not_kept(write: Callable[[bytes], Path]) -> None:
    files = {f"f{number}/metadata.csv": bytes(20 * 2**20) for number in range(2)}
    archive = open_archive(write(tarred(files)), "tar", LIMITS)
    assert len(archive.read(archive.members[0])) == 20 * 2**20
    with pytest.raises(DatasetError) as caught:
        archive.read(archive.members[1])
    assert caught.value.code == "metadata_too_large"


def test_damaged_metadata_is_said_so(write: Callable[[bytes], Path]) -> None:
    data = zipped({"metadata.csv": b"file_name,label"}, method=zipfile.ZIP_STORED).replace(b"file_name,label", b"file_name,lObel")
    archive = open_archive(write(data), "zip", LIMITS)
    with pytest.raises(DatasetError) as caught:
        archive.read(archive.members[0])
    assert caught.value.code == "metadata_unreadable"


@pytest.mark.parametrize(("announced", "build"), [("zip", tarred), ("tar", zipped), ("tar.gz", zipped), ("zip", lambda: b"text")])
def test_another_format_than_announced_is_refused(write: Callable[[bytes], Path], announced: str, build: Callable[[], bytes]) -> None:
    with pytest.raises(DatasetError) as caught:
        open_archive(write(build()), announced, LIMITS)
    assert caught.value.code == "archive_format"


def test_an_unknown_format_is_refused(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(DatasetError, match="'rar' are not read"):
        inspect_archive(write(zipped()), "rar", LIMITS)


def test_the_message_names_member_and_rule(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(DatasetError) as caught:
        inspect_archive(write(zip_named("a\\b.wav")), "zip", LIMITS)
    assert (caught.value.param, "backslash" in caught.value.message) == ("a\\b.wav", True)
    assert caught.value.hint is not None


def test_an_empty_zip_has_no_members(write: Callable[[bytes], Path]) -> None:
    assert open_archive(write(b"PK\5\6" + bytes(18)), "zip", LIMITS).members == ()


def test_indices_are_spread_evenly() -> None:
    assert spread(3, 10) == [0, 1, 2]
    assert spread(10, 5) == [0, 2, 4, 6, 8]


FUZZ = hypothesis_settings(max_examples=150 * FUZZ_FACTOR, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_changed_bytes_raise_our_error_or_nothing(write: Callable[[bytes], Path], data: st.DataObject) -> None:
    upload_format = data.draw(st.sampled_from(FORMATS))
    whole = {"zip": streamed_zip, "tar": tarred, "tar.gz": lambda: gzip.compress(tarred(), mtime=0)}[upload_format]()
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = write(bytes(changed[: data.draw(st.sampled_from([len(changed), len(changed) - 7, len(changed) // 2]))]))
    try:
        found = read_all(open_archive(path, upload_format, LIMITS))
    except DatasetError:
        return
    assert sum(map(len, found.values())) <= 4096
