"""Handwritten digits as scikit-learn carries them: 1,797 pictures by 43 writers (UCI optdigits), packed as a dataset to upload."""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.media import zip_entry
from models.errors import UnavailableError

SIDE = 28  # pixels; the originals have 8
_FULL_INK = 16  # the originals count dark pixels in blocks of 4 by 4
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_handwriting(target: Path) -> int:
    """Write a zip of PNG files, one folder a digit; return how many. Raises UnavailableError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra of the demo
    except ImportError as error:
        raise UnavailableError("scikit-learn is not here", hint="pip install 'synesthesia[demo]'") from error
    digits = load_digits()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number, (picture, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            archive.writestr(zip_entry(f"{WORDS[digit]}/{number:04d}.png"), _png(picture))
    return len(digits.target)


def _png(picture: NDArray[np.float64]) -> bytes:
    """Return a picture of shape (8, 8) with values 0 to 16 as a PNG of SIDE pixels a side, light ink on black."""
    grey = np.asarray(picture * (255 / _FULL_INK), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(sink, "PNG")
    return sink.getvalue()
