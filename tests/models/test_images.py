"""Pictures of all formats, modes and orientations, and those that are refused."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from torch.nn import functional

from models.errors import MediaContentError, MediaError, MediaTypeError
from models.images import FORMATS, ImageLimits, decode_image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def scene(height: int = 24, width: int = 32) -> Pixels:
    """A smooth colour picture of which no two corners are alike, uint8 (height, width, 3)."""
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    return np.stack([255 * rows, 255 * columns, 128 + 100 * rows * columns], axis=2).round().astype(np.uint8)


def saved(picture: Image.Image | Pixels, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, name, **options)
    return file.getvalue()


def refusal(data: bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(MediaContentError) as caught:
        decode_image(data, limits=limits or ImageLimits())
    return caught.value.code


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, body: bytes) -> bytes:
    """A PNG of one-byte grey pixels with any size in its header and any compressed rows."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


# name → the file, and the greatest error that its coding makes
ENCODED: dict[str, tuple[bytes, int]] = {
    "png": (saved(scene(), "PNG"), 0),
    "bmp": (saved(scene(), "BMP"), 0),
    "webp": (saved(scene(), "WEBP", lossless=True), 0),
    "jpeg": (saved(scene(), "JPEG", quality=95, subsampling=0), 8),
    "gif": (saved(scene(), "GIF"), 40),
}


def test_every_format_is_tried_here() -> None:
    assert set(ENCODED) == set(FORMATS)


@pytest.mark.parametrize("name", ENCODED)
def test_pixels_come_as_they_were(name: str) -> None:
    data, error = ENCODED[name]
    picture = decode_image(data)
    assert (picture.format, picture.width, picture.height, picture.grey) == (name, 32, 24, False)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape == (24, 32, 3)
    assert np.abs(picture.pixels.astype(int) - scene()).max() <= error


@pytest.mark.parametrize("name", ENCODED)
def test_the_first_bytes_decide_and_twice_is_the_same(name: str) -> None:
    np.testing.assert_array_equal(decode_image(ENCODED[name][0]).pixels, decode_image(ENCODED[name][0]).pixels)
    assert refusal(ENCODED[name][0][:12]) == "image_unreadable"


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_cut_picture_is_refused(name: str, kept: float) -> None:
    data = saved(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8), name.upper())
    assert refusal(data[: int(kept * len(data))]) == "image_unreadable"


@pytest.mark.parametrize(("mode", "name"), [("1", "PNG"), ("L", "PNG"), ("L", "JPEG"), ("L", "BMP"), ("L", "GIF"), ("1", "BMP")])
def test_grey_pictures_are_known(mode: str, name: str) -> None:
    grey = Image.fromarray(scene()).convert(mode)
    picture = decode_image(saved(grey, name))
    assert picture.grey
    expected = np.asarray(grey.convert("L"))
    assert np.abs(picture.pixels[..., 0].astype(int) - expected).max() <= (8 if name == "JPEG" else 0)
    assert (picture.pixels == picture.pixels[..., :1]).all()


def test_equal_channels_are_grey_and_one_tinted_pixel_is_not() -> None:
    pixels = np.full((10, 10, 3), 90, np.uint8)
    assert decode_image(saved(pixels, "PNG")).grey
    pixels[4, 5, 1] = 91
    assert not decode_image(saved(pixels, "PNG")).grey


def test_sixteen_bits_keep_their_upper_eight() -> None:
    deep = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 255
    picture = decode_image(saved(Image.fromarray(deep), "PNG"))
    assert picture.grey
    np.testing.assert_array_equal(picture.pixels[..., 0], deep >> 8)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_colour_spaces_of_jpeg(mode: str) -> None:
    picture = decode_image(saved(Image.fromarray(scene()).convert(mode), "JPEG", quality=95, subsampling=0))
    assert picture.pixels.shape == (24, 32, 3)
    assert np.abs(picture.pixels.astype(int) - scene()).max() <= 12


@pytest.mark.parametrize("name", ["PNG", "BMP", "GIF"])
def test_palettes(name: str) -> None:
    palette = Image.fromarray(scene()).quantize(64)
    np.testing.assert_array_equal(decode_image(saved(palette, name)).pixels, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_black(name: str, mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (200, 200, 200, 255)).convert(mode)
    image.putalpha(Image.fromarray(np.repeat([0, 128, 255, 255], 4).astype(np.uint8)[None].repeat(16, axis=0)))
    picture = decode_image(saved(image, name, lossless=True))
    assert picture.pixels[0, [0, 6, 15], 0].tolist() == [0, 100, 200]
    assert picture.grey


def test_a_transparent_colour_of_a_palette_lies_on_black() -> None:
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.paste(0, (0, 0, 8, 16))
    for name in ("PNG", "GIF"):
        picture = decode_image(saved(palette, name, transparency=0))
        assert picture.pixels[0, [0, 15]].tolist() == [[0, 0, 0], [0, 255, 0]]


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_taken(name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    picture = decode_image(saved(frames[0], name, save_all=True, append_images=frames[1:], duration=100, lossless=True))
    assert (picture.pixels == [255, 0, 0]).all(axis=2).mean() > 0.99


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_pictures_are_turned_upright(orientation: int, name: str) -> None:
    upright = scene()
    # What a camera held that way stores: the inverse of what EXIF asks the viewer to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = decode_image(saved(np.ascontiguousarray(stored), name, exif=exif, quality=100, lossless=True))
    assert (picture.width, picture.height) == (32, 24)
    assert np.abs(picture.pixels.astype(int) - upright).mean() < 3


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    np.testing.assert_array_equal(decode_image(saved(scene(), "PNG", exif=exif)).pixels, scene())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's word to whoever reads the log
def test_broken_exif_is_not_the_picture() -> None:
    np.testing.assert_array_equal(decode_image(saved(scene(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).pixels, scene())


@pytest.mark.parametrize(
    ("size", "wanted", "expected"), [((100, 200), 50, (50, 100)), ((200, 100), 50, (100, 50)), ((30, 40), 50, (30, 40))]
)
def test_large_pictures_shrink_to_the_shorter_side_and_small_ones_stay(
    size: tuple[int, int], wanted: int, expected: tuple[int, int]
) -> None:
    for name in ("PNG", "JPEG"):
        picture = decode_image(saved(scene(*size), name), shorter_side=wanted)
        assert picture.pixels.shape == (*expected, 3)
        assert (picture.height, picture.width) == size
    assert decode_image(saved(scene(*size), "PNG"), shorter_side=None).pixels.shape == (*size, 3)


@pytest.mark.parametrize(("name", "error"), [("PNG", 3), ("JPEG", 8)])
def test_resizing_is_torchs_antialiased_bicubic(name: str, error: int) -> None:
    pixels = scene(200, 300)
    resized = decode_image(saved(pixels, name, quality=95), shorter_side=50).pixels
    source = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    reference = functional.interpolate(source, (50, 75), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    assert np.abs(resized - reference.numpy()).max() <= error


def test_limits() -> None:
    data = saved(scene(10, 12), "PNG")
    assert decode_image(data, limits=ImageLimits(len(data), 120, 12, 10))
    assert refusal(data, ImageLimits(max_bytes=len(data) - 1)) == "image_too_large"
    assert refusal(data, ImageLimits(max_pixels=119)) == "image_too_large"
    assert refusal(data, ImageLimits(max_side=11)) == "image_too_large"
    assert refusal(data, ImageLimits(min_side=11)) == "image_too_small"
    assert refusal(saved(scene(7, 30), "PNG")) == "image_too_small"


@pytest.mark.parametrize("size", [(8193, 8), (8, 8193), (6000, 6000), (200_000, 200_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    assert refusal(png_of(*size, b"")) == "image_too_large"


def test_a_gif_bomb_is_refused() -> None:
    assert refusal(b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0x80, 0, 0) + bytes(6) + b"\x3b") in {
        "image_too_large",
        "image_unreadable",
    }


def test_rows_beyond_the_header_are_not_unpacked_without_end() -> None:
    picture = decode_image(png_of(16, 16, zlib.compress(bytes(17) * 16 + bytes(50_000_000))))
    assert picture.pixels.shape == (16, 16, 3)


def test_a_flipped_bit_in_a_png_is_noticed() -> None:
    data = bytearray(saved(scene(), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    assert refusal(bytes(data)) == "image_unreadable"


@pytest.mark.parametrize(
    "data", [b"", b"%!PS-Adobe-3.0 EPSF-3.0", b"II*\0" + bytes(20), b"<svg/>", b"RIFF\0\0\0\0WAVE", b"\x89PNG", b"P6 9 9 255\n"]
)
def test_other_bytes_are_no_picture(data: bytes) -> None:
    with pytest.raises(MediaTypeError) as caught:
        decode_image(data)
    assert caught.value.code == "media_type_unsupported"


@pytest.mark.parametrize("name", ENCODED)
def test_nothing_but_a_media_error_escapes(name: str) -> None:
    original = ENCODED[name][0]

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.integers(0, len(original) - 1), st.binary(min_size=1, max_size=6)), min_size=1, max_size=5),
        st.integers(0, 50),
    )
    def damage(patches: list[tuple[int, bytes]], cut: int) -> None:
        data = bytearray(original)
        for position, patch in patches:
            data[position : position + len(patch)] = patch
        try:
            picture = decode_image(bytes(data[: len(data) - cut]))
        except MediaError:
            return
        assert picture.pixels.ndim == 3

    damage()
