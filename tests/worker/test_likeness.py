"""Near-duplicates: the same thing saved otherwise is found, what merely looks or sounds alike is not, and crowds cost little."""

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.audio import decode_audio, from_pcm16, to_pcm16
from models.config import Modality
from tests.conftest import RATE, tone
from worker.likeness import Stored, candidate_pairs, near_duplicates

Array = NDArray[Any]


def stored(items: list[Array], modality: Modality) -> Stored:
    shapes = np.array([item.shape[:2] if item.ndim == 3 else (0, 0) for item in items], np.int32).reshape(-1, 2)
    data = np.concatenate([item.ravel() for item in items]) if items else np.empty(0, np.uint8)
    return Stored(modality, data, np.cumsum([0, *(item.size for item in items)]), shapes, RATE if modality == "audio" else None)


def voice(seed: int, seconds: float = 0.8) -> NDArray[np.int16]:
    """Something like a word: gliding harmonics under a swell, silence around it."""
    random = np.random.default_rng(seed)
    n = round(seconds * RATE)
    pitch = random.uniform(90, 220) * np.exp(np.cumsum(random.normal(0, 2e-4, n)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    weights = np.abs(np.sin(np.outer(np.arange(1, 13), np.linspace(0.3, 3, n) * random.uniform(0.3, 1.5)) + random.uniform(0, 6)))
    wave = (weights * np.sin(np.outer(np.arange(1, 13), phase))).sum(0) * np.sin(np.linspace(0, np.pi, n)) ** 2
    return to_pcm16((0.4 * wave / np.abs(wave).max()).astype(np.float32))


def scene(seed: int, side: int = 96) -> NDArray[np.uint8]:
    """Something like a photograph: a few large blobs of colour and fine grain."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    picture = np.full((side, side, 3), 128.0)
    for _ in range(8):
        row, column, width = random.uniform(0, 1, 3)
        blob = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (0.02 + 0.1 * width))
        picture += blob[:, :, None] * random.uniform(-120, 120, 3)
    return np.clip(picture + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def through(form: str, subtype: str) -> Callable[[NDArray[np.int16]], NDArray[np.int16]]:
    def change(samples: NDArray[np.int16]) -> NDArray[np.int16]:
        sink = io.BytesIO()
        soundfile.write(sink, from_pcm16(samples), RATE, format=form, subtype=subtype)
        return to_pcm16(decode_audio(sink.getvalue()).waveform)

    return change


def saved(form: str, **how: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    def change(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, form, **how)
        return np.asarray(Image.open(sink).convert("RGB"))

    return change


SOUND_CHANGES: dict[str, Callable[[NDArray[np.int16]], NDArray[np.int16]]] = {
    "softer": lambda samples: to_pcm16(from_pcm16(samples) * 0.3),
    "later": lambda samples: np.concatenate([np.zeros(600, np.int16), samples[:-600]]),
    "trimmed": lambda samples: samples[800:-800],
    "vorbis": through("OGG", "VORBIS"),
    "mp3": through("MP3", "MPEG_LAYER_III"),
    "noisier": lambda samples: to_pcm16(from_pcm16(samples) + np.random.default_rng(0).normal(0, 1e-3, len(samples)).astype(np.float32)),
}
PICTURE_CHANGES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "jpeg": saved("JPEG", quality=60),
    "webp": saved("WEBP", quality=70),
    "smaller": lambda pixels: np.asarray(Image.fromarray(pixels).resize((72, 72), Image.Resampling.BICUBIC)),
    "brighter": lambda pixels: np.clip(pixels * 0.9 + 20, 0, 255).astype(np.uint8),
}


def check_found(twice: Stored) -> None:
    """Every item stands there twice, the first time in the first half: nine in ten are found, and nothing else is."""
    half = len(twice) // 2
    found = near_duplicates(twice)
    assert {earlier for _, earlier in found} <= set(range(half))
    assert all(later == earlier + half for later, earlier in found)
    assert len(found) >= 0.9 * half


@pytest.mark.parametrize("name", SOUND_CHANGES)
def test_a_sound_saved_otherwise_is_found(name: str) -> None:
    sounds = [voice(seed) for seed in range(20)]
    assert near_duplicates(stored(sounds, "audio")) == []
    check_found(stored([*sounds, *(SOUND_CHANGES[name](one) for one in sounds)], "audio"))


@pytest.mark.parametrize("name", PICTURE_CHANGES)
def test_a_picture_saved_otherwise_is_found(name: str) -> None:
    pictures = [scene(seed) for seed in range(20)]
    assert near_duplicates(stored(pictures, "image")) == []
    check_found(stored([*pictures, *(PICTURE_CHANGES[name](one) for one in pictures)], "image"))


def test_the_first_of_many_is_what_they_repeat() -> None:
    one = scene(0)
    assert near_duplicates(stored([scene(5), one, *(PICTURE_CHANGES["jpeg"](one) for _ in range(3))], "image")) == [(2, 1), (3, 1), (4, 1)]


def test_tones_a_little_apart_are_not_the_same() -> None:
    tones = [to_pcm16(tone(hertz, 0.5)) for hertz in (440, 446, 452)]
    assert near_duplicates(stored(tones, "audio")) == []


def test_pictures_that_share_their_frame_are_not_the_same() -> None:
    pages = []
    for seed in range(6):  # a white page, another figure in its middle
        page = np.full((96, 96, 3), 250, np.uint8)
        page[28:68, 28:68] = scene(seed)[28:68, 28:68] // 2
        pages.append(page)
    assert near_duplicates(stored(pages, "image")) == []


def test_a_colour_makes_a_difference_that_green_does_not_show() -> None:
    red = scene(1)
    blue = red[:, :, [2, 1, 0]]
    assert near_duplicates(stored([red, blue], "image")) == []


def test_what_is_blank_has_no_likeness() -> None:
    blank = [np.full((20, 20, 3), grey, np.uint8) for grey in (0, 0, 255, 128)]
    assert near_duplicates(stored(blank, "image")) == []
    assert near_duplicates(stored([np.zeros(4000, np.int16)] * 3, "audio")) == []
    assert near_duplicates(stored([], "image")) == []
    assert near_duplicates(stored([scene(0)], "image")) == []


def test_very_short_and_very_small_items_do_no_harm() -> None:
    assert near_duplicates(stored([np.array([5], np.int16), voice(0), np.array([1, -1], np.int16)], "audio")) == []
    small = [np.random.default_rng(seed).integers(0, 255, (8, 9, 3)).astype(np.uint8) for seed in range(3)]
    assert near_duplicates(stored([*small, small[0]], "image")) == [(3, 0)]


@given(seed=st.integers(0, 200), flips=st.integers(0, 6))
def test_every_pair_that_shares_a_band_and_differs_little_is_a_candidate(seed: int, flips: int) -> None:
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**64, 40, np.uint64)
    hashes[1] = hashes[0]
    for bit in random.choice(48, flips, replace=False):
        hashes[1] ^= np.uint64(1) << np.uint64(bit)
    found = {tuple(pair) for pair in candidate_pairs(hashes).tolist()}
    bands = [(hashes >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48)]
    expected = {
        (one, other)
        for one in range(40)
        for other in range(one + 1, 40)
        if any(band[one] == band[other] for band in bands) and int(hashes[one] ^ hashes[other]).bit_count() <= 10
    }
    assert found == expected
    assert (0, 1) in found


def test_a_crowd_of_like_items_costs_little() -> None:
    hashes = np.zeros(20_000, np.uint64)
    began = time.process_time()
    pairs = candidate_pairs(hashes)
    assert time.process_time() - began < 5
    assert len(pairs) <= 64 * len(hashes), "not the square of their number"
