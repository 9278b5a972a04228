"""Bytes of a picture → RGB pixels, under limits that are checked before anything is decoded.

Each format's reader of Pillow is called by its magic number, never through Pillow's registry: the registry tries some forty formats,
EPS and its PostScript interpreter among them, and warns about size only after opening.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.errors import MediaContentError, MediaTypeError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
# What Pillow's readers raise for broken content, found by fuzzing them; its own documentation names OSError only.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError),
    *(struct.error, zlib.error),
)
# EXIF 2.32, tag 0x0112: what turns the stored picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_MODES = frozenset({"1", "L"})
_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True)
class ImageLimits:
    """What is accepted; settings can change it."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 25_000_000
    max_side: int = 8192
    min_side: int = 8


@dataclass(frozen=True)
class Picture:
    """One decoded picture."""

    pixels: Pixels
    """uint8 (height, width, 3), upright, transparency on black"""
    width: int
    """pixels of the upright source"""
    height: int
    """pixels of the upright source"""
    format: str
    """png, jpeg, webp, bmp or gif"""
    grey: bool
    """Whether the three channels are equal everywhere."""


DEFAULT_LIMITS = ImageLimits()


def decode_image(data: bytes, *, shorter_side: int | None = 128, limits: ImageLimits = DEFAULT_LIMITS) -> Picture:
    """Decode the (first) picture, turn it upright and scale it down, never up, so that its shorter side is `shorter_side` pixels.

    Raises MediaTypeError (media_type_unsupported) for bytes of no known format, and MediaContentError with one of the codes
    image_unreadable, image_too_large, image_too_small.
    """
    if len(data) > limits.max_bytes:
        raise MediaContentError(f"The file has {len(data)} bytes, the limit is {limits.max_bytes}.", code="image_too_large")
    name, reader = _sniff(data)
    with _translated():
        if name == "png":
            _check_png(data)
        with reader(io.BytesIO(data)) as image:
            width, height = image.size
            _check_size(width, height, limits)
            target = _scaled_size(width, height, shorter_side)
            if isinstance(image, JpegImageFile) and target != (width, height):
                # The JPEG decoder halves for free; twice the target leaves the last step to a good filter.
                image.draft(image.mode, (2 * target[0], 2 * target[1]))
            orientation = _orientation(image)
            pixels, grey = _pixels(image, target, orientation)
    if orientation > 4:  # 5 to 8 lie on their side
        width, height = height, width
    return Picture(pixels, width, height, name, grey)


def _pixels(image: Image.Image, target: tuple[int, int], orientation: int) -> tuple[Pixels, bool]:
    """Return uint8 (height, width, 3) and whether it is grey."""
    plain = _plain(image)
    if plain.size != target:
        plain = plain.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0)
    if orientation in _UPRIGHT:
        plain = plain.transpose(_UPRIGHT[orientation])
    width, height = plain.size
    if plain.mode == "L":
        flat = np.frombuffer(plain.tobytes(), np.uint8)
        return flat.repeat(3).reshape(height, width, 3), True
    pixels = np.frombuffer(plain.tobytes(), np.uint8).reshape(height, width, 3)
    first = pixels[..., :1]
    return pixels, bool((pixels == first).all())


def _plain(image: Image.Image) -> Image.Image:
    """Return the picture in mode L or RGB, 16 bits cut to the upper 8, transparency composited on black."""
    image.load()
    if image.mode in _DEEP_MODES:
        return Image.fromarray(np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, (0, 0, 0, 255))
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode in _GREY_MODES else "RGB")


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 (upright) where there is none or where the EXIF block is broken: it is not the picture."""
    if "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise MediaContentError(
            f"The picture has {width}×{height} pixels, the limits are {limits.max_side} a side and {limits.max_pixels} in all.",
            code="image_too_large",
        )
    if min(width, height) < limits.min_side:
        raise MediaContentError(
            f"The picture has {width}×{height} pixels, at least {limits.min_side} a side are needed.", code="image_too_small"
        )


def _scaled_size(width: int, height: int, shorter_side: int | None) -> tuple[int, int]:
    if shorter_side is None or min(width, height) <= shorter_side:
        return width, height
    scale = shorter_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_png(data: bytes) -> None:
    """Walk the chunks and compare their checksums (PNG, section 5.3): Pillow leaves out those of the pixels."""
    position, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(memoryview(data)[position + 4 : end]) != checksum:
            raise MediaContentError(f"The PNG chunk {name!r} is damaged: its checksum is wrong.", code="image_unreadable")
        position = end + 4


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what Pillow raises for broken content into our own error."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaContentError("The picture is far larger than the limit.", code="image_too_large") from error
    except _DECODER_ERRORS as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise MediaContentError(f"The picture can't be decoded: {reason}", code="image_unreadable") from error


def _sniff(data: bytes) -> tuple[str, Callable[[io.BytesIO], Image.Image]]:
    for name, (offset, magic, reader) in FORMATS.items():
        if data.startswith(magic, offset):
            return name, reader
    raise MediaTypeError("The bytes are no picture that is read here.", hint="Send PNG, JPEG, WebP, BMP or GIF.")


FORMATS: dict[str, tuple[int, bytes, Callable[[io.BytesIO], Image.Image]]] = {
    "png": (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    "jpeg": (0, b"\xff\xd8\xff", JpegImageFile),
    "webp": (8, b"WEBP", WebPImageFile),
    "bmp": (0, b"BM", BmpImageFile),
    "gif": (0, b"GIF8", GifImageFile),
}
