"""An archive → a packed dataset with a verdict on every file: decoders, duplicates, labels, splits, parents, a reader that is killed."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import wave
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from models.config import SPLITS
from models.dataset import PackedDataset
from models.errors import DatasetError
from tests.conftest import RATE, picture_archive, png_bytes, sound_archive, tone, wav_bytes, zip_bytes
from worker.archive_rules import Content, Member
from worker.decoder_pool import BATCH_FILES, DecoderPool
from worker.decoding import Decoded, sniff_modality
from worker.ingester import ingest
from worker.items import ITEMS_FILE, page_of_items
from worker.orders import IngestOrder
from worker.reports import FAILED_EXIT, RELEASED_EXIT, RESULT_EXIT, Reporter
from worker.settings import Settings

Files = dict[str, bytes]


def make_order(folder: Path, data: bytes, **changes: Any) -> IngestOrder:
    """An order to read `data`, with the service's own limits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "archive").write_bytes(data)
    defaults = Settings(_env_file=None)
    limits = {name: getattr(defaults, name) for name in IngestOrder.model_fields if name.startswith("max_")}
    values = {
        "job_id": "job_1", "token": 1, "parent_pid": os.getpid(), "folder": folder, "archive": folder / "archive", "upload_format": "zip",
        "sample_rate": RATE, "image_side": 32, "processes": 1,
    }  # fmt: skip
    return IngestOrder(**{**limits, **values, **changes})


class Outcome:
    """What an ingest left."""

    def __init__(self, order: IngestOrder) -> None:
        self.said = io.StringIO()
        self.result: dict[str, Any] = ingest(order, Reporter(self.said))
        self.summary = self.result["summary"]
        self.packed = PackedDataset.open(order.staging)
        self.items = page_of_items(order.staging / ITEMS_FILE, limit=10_000).data
        self.by_name = {item["file_name"]: item for item in self.items}

    def verdict(self, name: str) -> tuple[str, list[str]]:
        return self.by_name[name]["status"], self.by_name[name]["reasons"]

    @property
    def warnings(self) -> list[str]:
        return [warning["code"] for warning in self.summary["warnings"]]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Outcome]:
    def reader(files: Files | bytes, **changes: Any) -> Outcome:
        data = files if isinstance(files, bytes) else zip_bytes(files)
        return Outcome(make_order(tmp_path / f"job-{len(list(tmp_path.iterdir()))}", data, **changes))

    return reader


def clip(number: int, seconds: float = 0.1) -> bytes:
    return wav_bytes(tone(200 + 10 * number, seconds))


def encoded(form: str, subtype: str | None = None, waveform: NDArray[Any] | None = None) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, tone(440, 0.5) if waveform is None else waveform, RATE, format=form, subtype=subtype)
    return sink.getvalue()


def picture(form: str = "PNG", *, side: int = 16, seed: int = 0, grey: bool = False) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side) if grey else (side, side, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, form)
    return sink.getvalue()


def base() -> Files:
    """Two labels with three sounds each."""
    return {f"{label}/{number}.wav": clip(10 * at + number) for at, label in enumerate(("no", "yes")) for number in range(3)}


def wav_with_rate(rate: int, channels: int = 1) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(range(200)) * 20 * channels)
    return sink.getvalue()


SOUNDS: dict[str, tuple[bytes, str, list[str]]] = {
    "wav": (encoded("WAV", "PCM_24"), "accepted", []),
    "flac": (encoded("FLAC", None, tone(450, 0.5)), "accepted", []),
    "ogg": (encoded("OGG", "VORBIS", tone(460, 0.5)), "accepted", []),
    "opus": (encoded("OGG", "OPUS", tone(470, 0.5)), "accepted", []),
    "mp3": (encoded("MP3", None, tone(480, 0.5)), "accepted", []),
    "stereo": (encoded("WAV", None, np.stack([tone(490, 0.5), tone(520, 0.5)], axis=1)), "accepted", []),
    "clipped": (wav_bytes(np.clip(tone(500, 0.5, level=3.0), -1, 1)), "suspect", ["clipped"]),
    "rescaled": (encoded("WAV", "FLOAT", tone(510, 0.5, level=2.0)), "suspect", ["rescaled"]),
    "silent": (wav_bytes(np.zeros(RATE, np.float32)), "rejected", ["silent"]),
    "empty file": (b"", "rejected", ["file_empty"]),
    "empty sound": (wav_bytes(np.zeros(0, np.float32)), "rejected", ["audio_empty"]),
    "cut": (clip(70)[:-100], "rejected", ["audio_truncated"]),
    "short": (clip(71, 0.01), "rejected", ["audio_too_short"]),
    "long": (encoded("FLAC", None, np.tile(tone(100, 1.0), 61)), "rejected", ["audio_too_long"]),
    "not finite": (encoded("WAV", "FLOAT", np.full(RATE, np.nan, np.float32)), "rejected", ["audio_not_finite"]),
    "slow": (wav_with_rate(4000), "rejected", ["audio_rate"]),
    "many channels": (wav_with_rate(16000, 12), "rejected", ["audio_channels"]),
    "broken": (encoded("FLAC")[:60] + os.urandom(2000), "rejected", ["audio_unreadable"]),
    "large": (wav_bytes(np.zeros(400_000, np.float32)), "rejected", ["audio_too_large"]),
    "too large": (bytes(1_100_000), "rejected", ["file_too_large"]),
    "text": (b"these are words", "rejected", ["media_type_unsupported"]),
    "zip": (zip_bytes({"a": b"b"}), "rejected", ["media_type_unsupported"]),
    "picture": (picture(), "rejected", ["other_modality"]),
}
PICTURES: dict[str, tuple[bytes, str, list[str]]] = {
    **{form: (picture(form, seed=seed), "accepted", []) for seed, form in enumerate(("PNG", "JPEG", "WEBP", "BMP", "GIF"))},
    "wide": (picture(side=200, seed=9), "accepted", []),
    "small": (picture(side=7), "rejected", ["image_too_small"]),
    "many pixels": (picture(side=300), "rejected", ["image_too_large"]),
    "cut": (picture()[:-20], "rejected", ["image_unreadable"]),
    "tiff": (picture("TIFF"), "rejected", ["media_type_unsupported"]),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "rejected", ["media_type_unsupported"]),
    "sound": (clip(1), "rejected", ["other_modality"]),
}


def test_every_kind_of_sound_has_its_verdict(read: Callable[..., Outcome]) -> None:
    files = base() | {f"odd/{name}": data for name, (data, _, _) in SOUNDS.items()}
    outcome = read(files, max_member_bytes=1_000_000, max_sound_bytes=700_000)
    assert {name: outcome.verdict(f"odd/{name}") for name in SOUNDS} == {name: tuple(expected) for name, (_, *expected) in SOUNDS.items()}
    kept = [name for name, (_, status, _) in SOUNDS.items() if status != "rejected"]
    assert len(outcome.packed) == outcome.summary["items"] == len(kept) + 6
    assert outcome.summary["rejected"] == len(SOUNDS) - len(kept)
    assert outcome.by_name["odd/wav"]["duration_seconds"] == 0.5
    assert outcome.summary["duration_seconds"] == pytest.approx(0.5 * len(kept) + 0.6, abs=0.2)
    assert outcome.result["modality"] == outcome.packed.modality == "audio"


def test_every_kind_of_picture_has_its_verdict(read: Callable[..., Outcome]) -> None:
    files = {f"plain/{seed}.png": picture(seed=100 + seed) for seed in range(9)}
    files |= {f"odd/{name}": data for name, (data, _, _) in PICTURES.items()}
    outcome = read(files, max_image_pixels=50_000)
    assert {name: outcome.verdict(f"odd/{name}") for name in PICTURES} == {name: tuple(rest) for name, (_, *rest) in PICTURES.items()}
    assert (outcome.by_name["odd/wide"]["width"], outcome.by_name["odd/wide"]["height"]) == (200, 200)
    assert outcome.packed.shapes.max() == 32  # stored at the side that the order names
    assert not outcome.summary["grey"]
    assert outcome.summary["duration_seconds"] is None


def test_damaged_members_are_rejected_and_the_rest_goes_on(read: Callable[..., Outcome]) -> None:
    data = zip_bytes(base(), method=zipfile.ZIP_STORED)
    victim = base()["yes/1.wav"]
    outcome = read(data.replace(victim, victim[:-1] + bytes([victim[-1] ^ 1])))
    assert outcome.verdict("yes/1.wav") == ("rejected", ["file_damaged"])
    assert outcome.summary["items"] == 5


def test_grey_pictures_are_known_as_grey(read: Callable[..., Outcome]) -> None:
    assert read(
        {f"{label}/{seed}": picture(seed=seed + 9 * len(label), grey=True) for label in ("a", "bb") for seed in range(3)}
    ).packed.grey


@pytest.mark.parametrize("upload_format", ["tar", "tar.gz"])
def test_tar_archives_give_the_same_as_zip(read: Callable[..., Outcome], upload_format: str) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz" if upload_format == "tar.gz" else "w") as archive:
        for name, data in base().items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    tarred, zipped = read(sink.getvalue(), upload_format=upload_format), read(base())
    assert tarred.items == zipped.items
    assert (tarred.packed.data == zipped.packed.data).all()


def test_duplicates_under_one_label_are_rejected(read: Callable[..., Outcome]) -> None:
    same = (20_000 * tone(1234, 0.1)).astype(np.int16)  # exact in both formats
    outcome = read(base() | {"yes/a.wav": wav_bytes(same), "yes/b.flac": encoded("FLAC", "PCM_16", same), "yes/c.wav": wav_bytes(same)})
    assert outcome.verdict("yes/a.wav") == ("accepted", [])
    for name in ("yes/b.flac", "yes/c.wav"):
        assert outcome.verdict(name) == ("rejected", ["duplicate"])
        assert outcome.by_name[name]["duplicate_of"] == "yes/a.wav"
    assert "split_leak" not in outcome.warnings


def test_duplicates_under_two_labels_are_suspect(read: Callable[..., Outcome]) -> None:
    same = clip(99)
    outcome = read(base() | {"no/x.wav": same, "yes/x.wav": same, "yes/y.wav": same})
    assert outcome.verdict("no/x.wav") == outcome.verdict("yes/x.wav") == ("suspect", ["label_conflict"])
    assert outcome.verdict("yes/y.wav") == ("rejected", ["duplicate"])
    assert outcome.by_name["yes/y.wav"]["duplicate_of"] == "yes/x.wav"
    assert outcome.summary["items"] == 8
    assert "label_conflict" in outcome.warnings


def test_a_duplicate_across_declared_splits_is_a_leak(read: Callable[..., Outcome]) -> None:
    files = {f"{split}/{name}": data for split in ("train", "test") for name, data in base().items()}
    files |= {f"test/{label}/new.wav": clip(80 + len(label)) for label in ("no", "yes")}
    outcome = read(files)
    assert outcome.verdict("train/no/0.wav") == ("accepted", [])
    assert outcome.verdict("test/no/0.wav") == ("rejected", ["duplicate"])
    assert outcome.by_name["test/no/0.wav"]["split"] == "test"
    (leak,) = [warning for warning in outcome.summary["warnings"] if warning["code"] == "split_leak"]
    assert leak["message"].startswith("6 items")
    assert outcome.summary["splits"]["test"] == 2


def test_metadata_decides_and_what_it_lacks_is_reported(read: Callable[..., Outcome]) -> None:
    rows = ["file_name,label,speaker", *(f"{name},{name[:2]},s{name[-5]}" for name in base()), "gone.wav,no,s0"]
    outcome = read(base() | {"metadata.csv": "\n".join(rows).encode(), "extra.wav": clip(55)})
    assert outcome.summary["labels"] == ["no", "ye"]
    assert outcome.summary["groups"] == 3
    assert outcome.verdict("extra.wav") == ("rejected", ["not_in_metadata"])
    assert outcome.verdict("gone.wav") == ("rejected", ["missing_from_archive"])
    assert "metadata.csv" not in outcome.by_name
    assert outcome.by_name["yes/1.wav"]["group"] == "s1"


def test_groups_are_kept_on_one_side(read: Callable[..., Outcome]) -> None:
    outcome = read(sound_archive(words=2, speakers=6, takes=2))
    sides: dict[str, set[str]] = {}
    for item in outcome.items:
        sides.setdefault(item["group"], set()).add(item["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert {split for found in sides.values() for split in found} == set(SPLITS)
    assert outcome.packed.group_names == tuple(f"speaker{number}" for number in range(6))


def test_the_summary_counts_what_is_packed(read: Callable[..., Outcome]) -> None:
    outcome = read(picture_archive(labels=2, items=20))
    packed, summary = outcome.packed, outcome.summary
    assert summary["splits"] == {split: len(packed.indices(split)) for split in SPLITS} == {"train": 32, "validation": 4, "test": 4}
    assert summary["per_label"] == {label: {"train": 16, "validation": 2, "test": 2} for label in ("stripe0", "stripe1")}
    assert [item["split"] for item in outcome.items] == [SPLITS[index] for index in packed.item_splits]
    assert (summary["items"], summary["rejected"], summary["groups"], summary["warnings"]) == (40, 0, 0, [])
    assert packed.summary == summary


def test_the_same_archive_gives_the_same_bytes(tmp_path: Path) -> None:
    left = []
    for number, processes in enumerate((1, 3, 2)):
        order = make_order(tmp_path / str(number), sound_archive(), processes=processes)
        ingest(order, Reporter(io.StringIO()))
        left.append({path.name: path.read_bytes() for path in order.staging.iterdir()})
    assert left[0] == left[1] == left[2]
    assert set(left[0]) == {
        "data.bin",
        "manifest.json",
        "items.db",
        *(f"{n}.npy" for n in ("labels", "splits", "groups", "offsets", "shapes")),
    }


@pytest.mark.parametrize(
    ("files", "code", "param"),
    [
        (base() | {"maybe/1.wav": b"text", "maybe/2.wav": b""}, "label_empty", "maybe"),
        ({f"yes/{number}.wav": clip(number) for number in range(3)}, "too_few_labels", None),
        ({"yes/1.txt": b"words", "no/1.txt": b"more words"}, "dataset_empty", None),
        ({"yes/1.wav": b"RIFF", "no/1.wav": clip(1)[:30]}, "dataset_empty", None),
        ({}, "dataset_empty", None),
        ({"yes/1.wav": clip(1), "no/1.png": picture()}, "modality_ambiguous", None),
        ({f"test/{name}": data for name, data in base().items()}, "train_empty", None),
    ],
)
def test_a_dataset_that_cant_be_trained_on_fails(tmp_path: Path, files: Files, code: str, param: str | None) -> None:
    with pytest.raises(DatasetError) as caught:
        ingest(make_order(tmp_path, zip_bytes(files)), Reporter(io.StringIO()))
    assert (caught.value.code, caught.value.param) == (code, param)


def test_the_failure_says_why_a_labels_files_were_rejected(tmp_path: Path) -> None:
    order = make_order(tmp_path, zip_bytes(base() | {"maybe/1.wav": b"text", "maybe/2.wav": b"text", "maybe/3.wav": b""}))
    with pytest.raises(DatasetError, match=r"'maybe' .* 2 × media_type_unsupported \(as 'maybe/1.wav'\), 1 × file_empty"):
        ingest(order, Reporter(io.StringIO()))


@pytest.mark.parametrize(
    ("files", "code", "named"),
    [
        (base() | {"rare/1.wav": clip(50), "rare/2.wav": clip(51)}, "label_few_items", "'rare'"),
        (base() | {f"YES/{number}.wav": clip(number) for number in range(50, 53)}, "labels_alike", "'YES', 'yes'"),
        (
            {f"train/{name}": data for name, data in base().items()} | {f"test/new/{number}": clip(50 + number) for number in range(3)},
            "label_untrained",
            "'new'",
        ),
    ],
)
def test_doubts_about_labels_are_warnings(read: Callable[..., Outcome], files: Files, code: str, named: str) -> None:
    outcome = read(files)
    (warning,) = outcome.summary["warnings"]
    assert warning["code"] == code
    assert named in warning["message"]


def test_a_group_declared_for_two_sides_is_a_warning(read: Callable[..., Outcome]) -> None:
    rows = ["file_name,label,split,speaker"]
    rows += [f"{name},{name.split('/')[0]},{'test' if '2' in name else 'train'},ann" for name in base()]
    assert read(base() | {"metadata.csv": "\n".join(rows).encode()}).warnings == ["group_leak"]


def test_the_modality_is_what_most_files_are(read: Callable[..., Outcome]) -> None:
    outcome = read(base() | {"yes/cover.png": picture(), "no/notes.txt": b"words"})
    assert outcome.result["modality"] == "audio"
    assert outcome.verdict("yes/cover.png") == ("rejected", ["other_modality"])
    assert outcome.verdict("no/notes.txt") == ("rejected", ["media_type_unsupported"])


def test_a_given_modality_is_kept(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="6 × other_modality"):
        ingest(make_order(tmp_path, zip_bytes(base()), modality="image"), Reporter(io.StringIO()))


def test_first_bytes_tell_sounds_from_pictures() -> None:
    assert {sniff_modality(data[:16]) for data, _, _ in list(SOUNDS.values())[:5]} == {"audio"}
    assert {sniff_modality(data[:16]) for data, _, _ in list(PICTURES.values())[:5]} == {"image"}
    assert sniff_modality(b"words") is sniff_modality(b"") is None


# A dataset that extends another.


def new_sounds(label: str, count: int, start: int) -> Files:
    return {f"{label}/{start + number}.wav": clip(start + number) for number in range(count)}


def extend(read: Callable[..., Outcome], parent: Outcome, files: Files | bytes) -> Outcome:
    return read(files, parent_directory=parent.packed.directory)


def test_a_child_holds_the_parents_items_unchanged_and_the_new_ones(read: Callable[..., Outcome]) -> None:
    parent = read(new_sounds("no", 12, 100) | new_sounds("yes", 12, 200) | {"no/text": b"words"})
    child = extend(read, parent, new_sounds("maybe", 12, 300) | {"yes/again.wav": clip(205)})
    assert child.summary["labels"] == ["maybe", "no", "yes"]
    assert child.summary["items"] == 36
    count = len(parent.packed)
    assert (child.packed.data[: len(parent.packed.data)] == parent.packed.data).all()
    assert (child.packed.item_splits[:count] == parent.packed.item_splits).all()
    assert [child.packed.labels[index] for index in child.packed.item_labels[:count]] == [
        parent.packed.labels[index] for index in parent.packed.item_labels
    ]
    assert child.by_name["yes/again.wav"]["duplicate_of"] == "yes/205.wav"
    assert child.summary["per_label"]["maybe"] == {"train": 10, "validation": 1, "test": 1}  # a new label can be measured as well
    assert "no/text" not in child.by_name


def test_a_speaker_of_the_parent_stays_on_its_side(read: Callable[..., Outcome]) -> None:
    parent = read(sound_archive(words=2, speakers=6, takes=2))
    rows, files = ["file_name,label,speaker"], {}
    for speaker in range(6):
        files[f"new{speaker}.wav"] = clip(400 + speaker)
        rows.append(f"new{speaker}.wav,word0,speaker{speaker}")
    child = extend(read, parent, files | {"metadata.csv": "\n".join(rows).encode()})
    side = {item["group"]: item["split"] for item in parent.items}
    assert all(child.by_name[f"new{speaker}.wav"]["split"] == side[f"speaker{speaker}"] for speaker in range(6))


def test_splits_declared_in_the_new_archive_hold(read: Callable[..., Outcome]) -> None:
    parent = read(new_sounds("no", 12, 100) | new_sounds("yes", 12, 200))
    child = extend(read, parent, {f"train/{name}": data for name, data in new_sounds("no", 12, 300).items()})
    assert all(child.by_name[f"train/no/{300 + number}.wav"]["split"] == "train" for number in range(12))


def test_a_grandchild_can_be_made(read: Callable[..., Outcome]) -> None:
    parent = read(base())
    grandchild = extend(read, extend(read, parent, new_sounds("no", 3, 300)), new_sounds("yes", 3, 400))
    assert len(grandchild.packed) == 12


@pytest.mark.parametrize(("change", "code"), [({"modality": "image"}, "modality_mismatch"), ({"sample_rate": 8000}, "parent_incompatible")])
def test_a_parent_that_does_not_fit_is_refused(read: Callable[..., Outcome], change: dict[str, Any], code: str) -> None:
    parent = read(base())
    with pytest.raises(DatasetError) as caught:
        read(base(), parent_directory=parent.packed.directory, **change)
    assert caught.value.code == code


# Near-duplicates.


def word(seed: int) -> NDArray[np.float32]:
    """Half a second of a gliding buzz that differs from every other seed's."""
    random = np.random.default_rng(seed)
    phase = 2 * np.pi * np.cumsum(np.linspace(*random.uniform(90, 300, 2), 8000)) / RATE
    wave = sum(random.uniform(0, 1) * np.sin(k * phase) for k in range(1, 15)) * np.sin(np.linspace(0, np.pi, 8000))
    return np.asarray(0.3 * wave / np.abs(wave).max(), np.float32)


def words() -> Files:
    return {f"train/{label}/{seed}.wav": wav_bytes(word(10 * at + seed)) for at, label in enumerate(("no", "yes")) for seed in range(4)}


def test_a_sound_that_was_saved_anew_is_kept_as_suspect_and_a_leak_is_told(read: Callable[..., Outcome]) -> None:
    again = {"test/no/again.ogg": encoded("OGG", "VORBIS", 0.5 * word(2)), "train/yes/again.flac": encoded("FLAC", None, 0.4 * word(11))}
    elsewhere = [f"{split}/{label}" for split in ("validation", "test") for label in ("no", "yes")]  # nothing is left to be cut
    other = {f"{folder}/other.wav": wav_bytes(word(50 + at)) for at, folder in enumerate(elsewhere)}
    outcome = read(words() | again | other)
    assert outcome.verdict("test/no/again.ogg") == outcome.verdict("train/yes/again.flac") == ("suspect", ["near_duplicate"])
    assert outcome.by_name["test/no/again.ogg"]["duplicate_of"] == "train/no/2.wav"
    assert outcome.by_name["train/yes/again.flac"]["duplicate_of"] == "train/yes/1.wav"
    assert all(outcome.verdict(name) == ("accepted", []) for name in words() | other)
    assert outcome.summary["items"] == 14, "they are kept"
    (warning,) = [warning for warning in outcome.summary["warnings"] if warning["code"] == "near_duplicate"]
    assert "1 items" in warning["message"]
    assert "'test/no/again.ogg'" in warning["message"], "the one within training leaks nothing"


def test_near_duplicates_on_one_side_are_no_leak(read: Callable[..., Outcome]) -> None:
    elsewhere = [f"{split}/{label}" for split in ("validation", "test") for label in ("no", "yes")]
    other = {f"{folder}/other.wav": wav_bytes(word(50 + at)) for at, folder in enumerate(elsewhere)}
    outcome = read(words() | other | {"train/no/again.wav": wav_bytes(0.5 * word(0))})
    assert outcome.verdict("train/no/again.wav") == ("suspect", ["near_duplicate"])
    assert "near_duplicate" not in outcome.warnings


def test_the_same_under_another_label_is_told_once(read: Callable[..., Outcome]) -> None:
    outcome = read(words() | {"train/yes/same.wav": wav_bytes(word(0))})
    assert outcome.verdict("train/yes/same.wav") == ("suspect", ["label_conflict"])


def test_what_a_new_archive_repeats_of_its_parent_is_found(read: Callable[..., Outcome]) -> None:
    parent = read(words())
    child = extend(read, parent, {"train/no/new.wav": wav_bytes(0.6 * word(3))})
    assert child.by_name["train/no/new.wav"]["duplicate_of"] == "train/no/3.wav"


# The decoder processes.


def contents(data: Iterable[bytes]) -> list[Content]:
    return [Content(Member(str(number), len(item)), item) for number, item in enumerate(data)]


def cruel_decode(data: bytes) -> Decoded:
    """A decoder with a bug for every word."""
    if data == b"segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"raise":
        sys.stderr = io.StringIO()  # its traceback is not this test's
        raise RuntimeError
    if data == b"memory":
        bytearray(8 * 2**30)
    if data == b"write":
        with tempfile.TemporaryFile() as file:
            file.write(b"much" * 2**20)
    if data == b"hang":
        signal.alarm(1)
        time.sleep(60)
    return Decoded(item=np.frombuffer(data, np.uint8).astype(np.int16), content=data[:4])


def test_answers_come_in_order_whatever_the_number_of_processes() -> None:
    data = [os.urandom(np.random.default_rng(0).integers(1, 5000)) for _ in range(5 * BATCH_FILES + 3)]
    for processes in (1, 2, 5):
        with DecoderPool(cruel_decode, processes) as pool:
            answers = list(pool.decode(contents(data)))
        assert [member.name for member, _ in answers] == [str(number) for number in range(len(data))]
        assert all((decoded.item == np.frombuffer(item, np.uint8)).all() for item, (_, decoded) in zip(data, answers, strict=True))


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_kills_its_decoder_costs_only_itself(capfd: pytest.CaptureFixture[str]) -> None:
    data = [b"fine"] * 3 + [b"segfault"] + [b"good"] * 70 + [b"memory", b"write", b"segfault", b"hang", b"last"]
    with DecoderPool(cruel_decode, 2) as pool:
        reasons = [decoded.reason for _, decoded in pool.decode(contents(data))]
    capfd.readouterr()
    assert reasons == [None] * 3 + ["decoder_crashed"] + [None] * 70 + ["decoder_crashed"] * 3 + ["decoder_timeout", None]


def new_children(before: set[psutil.Process]) -> list[psutil.Process]:
    """Processes of this one that were not there before: other tests' services may be."""
    return [child for child in psutil.Process().children() if child not in before]


def test_a_process_killed_between_two_files_costs_none() -> None:
    before = set(psutil.Process().children())
    with DecoderPool(cruel_decode, 1) as pool:
        assert len(list(pool.decode(contents([b"one"])))) == 1
        (child,) = new_children(before)
        child.kill()
        while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert [decoded.reason for _, decoded in pool.decode(contents([b"two"]))] == [None]


def test_the_processes_are_gone_at_the_end() -> None:
    before = set(psutil.Process().children())
    with DecoderPool(cruel_decode, 3):
        assert len(new_children(before)) == 3
    assert new_children(before) == []


# The process as a whole.


class Child:
    """`python -m worker.ingester` with an order."""

    def __init__(self, order: IngestOrder) -> None:
        command = [sys.executable, "-m", "worker.ingester"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdin is not None
        self.process.stdin.write(order.model_dump_json().encode())
        self.process.stdin.close()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert self.process.stdout is not None
        return next(report for report in map(json.loads, self.process.stdout) if wanted(report))

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            reports = [json.loads(line) for line in stdout]
        return self.process.wait(timeout=20), reports


def slow_archive() -> bytes:
    """A second or two of work."""
    pixels = np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    base_png = png_bytes(pixels)
    return zip_bytes({f"{label}/{number}.png": base_png for label in ("a", "b") for number in range(60)}, method=zipfile.ZIP_STORED)


def test_the_process_reports_progress_and_a_result(tmp_path: Path) -> None:
    order = make_order(tmp_path, sound_archive())
    code, reports = Child(order).end()
    assert code == RESULT_EXIT
    assert reports[-1]["kind"] == "result"
    assert reports[-1]["progress"] == {"phase": "done", "done": 36, "total": 36, "fraction": 1.0, "eta_seconds": 0.0}
    progress = [report for report in reports if report["kind"] == "progress"]
    assert [report["phase"] for report in progress][:2] == ["opening", "reading"]
    assert len(PackedDataset.open(order.staging)) == 36


def test_a_failure_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    order = make_order(tmp_path, zip_bytes(base() | {"maybe/1.wav": b"text"}))
    code, reports = Child(order).end()
    assert code == FAILED_EXIT
    assert (reports[-1]["kind"], reports[-1]["code"], reports[-1]["param"]) == ("failed", "label_empty", "maybe")
    assert not order.staging.exists()


def test_a_stopped_ingester_leaves_nothing_and_goes_at_once(tmp_path: Path) -> None:
    order = make_order(tmp_path, slow_archive(), processes=2, image_side=600)
    child = Child(order)
    child.wait_for(lambda report: bool(report.get("done")))
    decoders = psutil.Process(child.process.pid).children()
    began = time.monotonic()
    child.process.terminate()
    code, reports = child.end()
    assert code == RELEASED_EXIT
    assert time.monotonic() - began < 3
    assert not [report for report in reports if report["kind"] == "result"]
    assert not order.staging.exists()
    assert len(decoders) == 2
    assert not any(decoder.is_running() for decoder in decoders)


def test_a_killed_ingester_takes_its_decoders_along(tmp_path: Path) -> None:
    child = Child(make_order(tmp_path, slow_archive(), processes=2, image_side=600))
    child.wait_for(lambda report: bool(report.get("done")))
    decoders = psutil.Process(child.process.pid).children()
    child.process.kill()
    assert child.end()[0] == -signal.SIGKILL
    gone, alive = psutil.wait_procs(decoders, timeout=5)
    assert (len(gone), alive) == (2, [])
