"""One file's bytes → what is stored of it, or the reason why nothing is. Runs in the decoder processes; knows nothing of them."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from models.audio import AudioLimits, decode_audio, to_pcm16
from models.config import Modality
from models.dataset import Items
from models.decoders import sniff_container
from models.errors import MediaError, MediaTypeError
from models.images import FORMATS, ImageLimits, decode_image


@dataclass(frozen=True, slots=True)
class DecodeRules:
    """What is decoded, to what, and under which limits."""

    modality: Modality
    sample_rate: int
    """Hz of stored sounds"""
    shorter_side: int
    """pixels; larger pictures are scaled down to it"""
    sound_limits: AudioLimits
    image_limits: ImageLimits


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came of one file. Without a `reason` there is an item."""

    reason: str | None = None
    item: Items | None = None
    """int16 (n_samples,) or uint8 (height, width, 3)"""
    content: bytes = b""
    """digest of `item` and its shape: equal for files that hold the same"""
    remarks: tuple[str, ...] = ()
    """why the item is suspect: clipped, rescaled"""
    duration: float | None = None
    """seconds, of the file"""
    width: int | None = None
    """pixels, of the file"""
    height: int | None = None
    grey: bool = False


def sniff_modality(head: bytes) -> Modality | None:
    """Return what a file is by its first 16 bytes, None for neither sound nor picture."""
    if any(head.startswith(magic, offset) for offset, magic, _ in FORMATS.values()):
        return "image"
    try:
        sniff_container(head)
    except MediaTypeError:
        return None
    return "audio"


def count_modalities(heads: Iterable[bytes]) -> dict[Modality, int]:
    """Return how many of these files are sounds and how many are pictures."""
    kinds = [sniff_modality(head) for head in heads]
    return {"audio": kinds.count("audio"), "image": kinds.count("image")}


def decode_file(data: bytes, rules: DecodeRules) -> Decoded:
    """Decode one file. What is wrong with its content becomes a reason; what raises is a bug, and ends the process."""
    if not data:
        return Decoded("file_empty")
    try:
        return _DECODERS[rules.modality](data, rules)
    except MediaError as error:
        other = error.code == "media_type_unsupported" and sniff_modality(data[:16]) is not None
        return Decoded("other_modality" if other else error.code)


def _decode_sound(data: bytes, rules: DecodeRules) -> Decoded:
    sound = decode_audio(data, sample_rate=rules.sample_rate, limits=rules.sound_limits)
    if "silence" in sound.warnings:
        return Decoded("silent", duration=sound.duration_seconds)
    item = to_pcm16(sound.waveform)
    return Decoded(item=item, content=digest_of(item), remarks=sound.warnings, duration=sound.duration_seconds)


def _decode_picture(data: bytes, rules: DecodeRules) -> Decoded:
    picture = decode_image(data, shorter_side=rules.shorter_side, limits=rules.image_limits)
    return Decoded(
        item=picture.pixels, content=digest_of(picture.pixels), width=picture.width, height=picture.height, grey=picture.grey
    )  # fmt: skip


def digest_of(item: Items) -> bytes:
    """Return 16 bytes: clashes by chance are out of the question, and one made on purpose rejects its maker's own file."""
    return hashlib.blake2b(np.ascontiguousarray(item).data, digest_size=16, key=repr(item.shape).encode()).digest()


_DECODERS: dict[Modality, Callable[[bytes, DecodeRules], Decoded]] = {"audio": _decode_sound, "image": _decode_picture}
