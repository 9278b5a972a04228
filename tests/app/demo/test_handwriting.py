import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.demo.handwriting import SIDE, WORDS, _png, write_handwriting

pytest.importorskip("sklearn")


def test_the_archive(tmp_path: Path) -> None:
    assert write_handwriting(tmp_path / "a.zip") == 1797
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        picture = Image.open(io.BytesIO(archive.read(names[0])))
        assert (picture.size, picture.mode) == ((SIDE, SIDE), "L")
    counts = Counter(name.partition("/")[0] for name in names)
    assert set(counts) == set(WORDS)
    assert min(counts.values()) > 170
    write_handwriting(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes(), "the service stores the same archive once"


def test_ink_is_light_on_black() -> None:
    picture = np.zeros((8, 8))
    picture[2:6, 2:6] = 16
    pixels = np.asarray(Image.open(io.BytesIO(_png(picture))))
    assert pixels[SIDE // 2, SIDE // 2] == 255
    assert pixels[0, 0] < 10
