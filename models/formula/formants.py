"""Spectrograms of words that nobody has spoken: a voice's resonances, its pitch, its noises and its pauses, all by formula.

A label is a string of sounds (vowels, nasals, hisses, stops) of one invented language, an item one way to say it: by a longer or a
shorter throat, higher or lower, faster or slower, in more or less noise. The source-filter model of speech (Fant 1960) gives the power
at each frequency; what Klatt 1980 (J. Acoust. Soc. Am. 67, 971) reports of formants and bandwidths gives the ranges. Low frequencies
are at the top, on a mel scale, as the service lays its spectrograms; grey, and brighter where there is more of a sound.

A picture is 0.8 s long. With 40 pixels a side its bands and columns are those of the service's own spectrograms, 40 bands every 20 ms,
and that counts: a probe on 20 real words found 73.6 % from 5 clips a word with 40 pixels and 60.6 with 32 of a second (3000 steps each).
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.formula.canvas import Floats, Pixels, grey, single

_SOUNDS = (2, 7)  # of a word, the upper end exclusive
_TOP_HZ = 8000.0
_FORMANTS = 4
_BANDWIDTHS = np.array([90.0, 110.0, 170.0, 250.0], dtype=np.float32)  # Hz, of formants 1 to 4
_RANGES = ((250.0, 850.0), (700.0, 2500.0), (2200.0, 3200.0), (3300.0, 4000.0))  # Hz, of the four formants
_THROAT = 0.3  # all formants of a speaker are higher or lower by up to this share
_HABIT = 0.09  # and each one by this deviation of its own
_PITCH_HZ = (80.0, 320.0)
_DURATION = 0.5  # change of each sound's length, share
_DYNAMIC = 12.0  # nats from black to white
_CENTERING = 0.8  # share of each band's mean over time that is taken away
_FLOOR = (-11.0, -2.5)  # nats below the loudest place: the noise around
_GRAIN = 0.4  # nats: deviation of single places
_NARROW = 0.25  # share of the microphones that hear nothing above some band, as telephones
_GLIDE = 0.055  # of the picture's width: how quickly the mouth moves
_WIDTH = (0.35, 0.95)  # of the picture's width: a word of many sounds
_VOWELS = 18
_CONSONANTS = (8, 8, 5, 5)  # hisses, stops, hums, voiced hisses
_HISS_HZ = (1200.0, 7000.0)
_DIALECT = 0.04  # deviation of each sound in each word: neighbours color it
_LANGUAGE_SEED = 20100551


@dataclass(frozen=True)
class _Language:
    """What all words are made of, so that words are told apart by the order of their sounds, too, as in speech."""

    vowels: Floats  # formants, Hz, (vowels, 4)
    consonants: Floats  # formants, Hz, (consonants, 4)
    kinds: NDArray[np.int64]  # of the consonants: 0 hiss, 1 stop, 2 hum, 3 voiced hiss
    hiss_hz: Floats
    hiss_width: Floats  # share of its frequency


@dataclass(frozen=True)
class _Word:
    """Shapes: (sounds, …)."""

    formants: Floats  # Hz, (sounds, 4)
    voiced: Floats  # 0 to 1: how loud the voice is
    hiss: Floats  # 0 to 1: how loud the noise is
    hiss_hz: Floats  # where it is
    hiss_width: Floats  # share of its frequency
    length: Floats  # relative


def draw(random: np.random.Generator, items: int, side: int) -> Pixels:
    """Return `items` pictures, shape (items, side, side, 3), of one random word by as many random speakers."""
    word = _word(random)
    sound, share = _timing(random, word, items, side)
    formants = _glide(word.formants[sound] * share[..., None], side) / np.maximum(_glide(share[..., None], side), 1e-3)
    voiced, hiss = (_glide((loudness[sound] * share)[..., None], side)[..., 0] for loudness in (word.voiced, word.hiss))
    speaker = random.uniform(1 - _THROAT, 1 + _THROAT, (items, 1, 1)) * random.normal(1, _HABIT, (items, 1, _FORMANTS))
    power = _voice(random, single(formants * speaker), voiced, side)
    power += _noise(random, word, sound, hiss, np.sqrt(speaker[..., :1]), side)
    return grey(_seen(random, power))


@functools.cache
def _language() -> _Language:
    """Return the one language there is."""
    random = np.random.default_rng(_LANGUAGE_SEED)
    count = sum(_CONSONANTS)
    vowels, consonants = _spread(random, _VOWELS), _spread(random, count)
    low, high = np.log(_HISS_HZ)
    hiss_hz = np.exp(random.permutation(np.linspace(low, high, count)))
    return _Language(
        vowels, consonants, np.repeat(np.arange(len(_CONSONANTS)), _CONSONANTS), single(hiss_hz), single(random.uniform(0.15, 0.5, count))
    )


def _spread(random: np.random.Generator, count: int) -> Floats:
    """Return formants, Hz, shape (count, 4), that lie apart: each is the remotest of twenty from those there are, as ears hear it."""
    low, high = np.array(_RANGES).T
    weight = np.array([1.0, 1.0, 0.4, 0.2]) / (high - low)
    chosen = random.uniform(low, high, (1, _FORMANTS))
    while len(chosen) < count:
        offered = random.uniform(low, high, (20, _FORMANTS))
        nearest = (((offered[:, None] - chosen) * weight) ** 2).sum(axis=2).min(axis=1)
        chosen = np.r_[chosen, offered[nearest.argmax()][None]]
    chosen[:, 1] = np.maximum(chosen[:, 1], chosen[:, 0] + 250)
    return single(chosen)


def _word(random: np.random.Generator) -> _Word:
    language, count = _language(), int(random.integers(*_SOUNDS))
    # Vowels alternate with what hums, hisses or stops, as syllables do.
    vowel = (np.arange(count) + random.integers(2)) % 2 == 0
    consonant = random.integers(sum(_CONSONANTS), size=count)
    formants = np.where(vowel[:, None], language.vowels[random.integers(_VOWELS, size=count)], language.consonants[consonant])
    formants = formants * random.normal(1, _DIALECT, (count, _FORMANTS))
    kind = language.kinds[consonant]
    voiced = np.where(vowel, 1.0, np.choose(kind, [0.0, 0.0, 0.35, 0.3]))
    hiss = np.where(vowel, 0.0, np.choose(kind, [1.0, 0.5, 0.0, 0.5])) * random.uniform(0.4, 1.0, count)
    length = np.where(vowel, random.uniform(0.8, 1.8, count), np.choose(kind, [1.0, 0.35, 0.7, 0.7]) * random.uniform(0.7, 1.3, count))
    hiss_hz = language.hiss_hz[consonant] * random.normal(1, _DIALECT, count)
    return _Word(*(single(field) for field in (formants, voiced, hiss, hiss_hz, language.hiss_width[consonant], length)))


def _timing(random: np.random.Generator, word: _Word, items: int, side: int) -> tuple[NDArray[np.int64], Floats]:
    """Return which sound is said at each column, shape (items, side), and 1 where one is, 0 before and after the word and in closures."""
    lengths = word.length * random.uniform(1 - _DURATION, 1 + _DURATION, (items, len(word.length)))
    ends = np.cumsum(lengths, axis=1)
    whole = random.uniform(*_WIDTH, (items, 1)) * np.clip(0.6 + 0.1 * len(word.length), 0, 1)  # of the picture
    start = random.uniform(0, 1, (items, 1)) * (1 - whole)
    place = ((np.arange(side) + 0.5) / side - start) / whole * ends[:, -1:]
    sound = (place[:, :, None] > ends[:, None, :]).sum(axis=2).clip(0, len(word.length) - 1)
    said = (place > 0) & (place < ends[:, -1:])
    # The mouth closes before a stop opens it: the last third of what comes before a short hiss is silent.
    stop = (word.hiss > 0) & (word.voiced == 0) & (word.length < 0.5)
    before = np.r_[stop[1:], False][sound]
    left = (np.take_along_axis(ends, sound, axis=1) - place) / np.take_along_axis(lengths, sound, axis=1)
    return sound, (said & ~(before & (left < 0.33))).astype(np.float32)


def _glide(values: Floats, side: int) -> Floats:
    """Return values, shape (items, side, n), smoothed over time: a mouth does not jump from sound to sound."""
    reach = max(1, round(3 * _GLIDE * side))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (_GLIDE * side)) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    padded = np.pad(values, ((0, 0), (reach, reach), (0, 0)))
    return single(np.sum([weight * padded[:, shift : shift + side] for shift, weight in enumerate(kernel)], axis=0))


def _bands(side: int) -> tuple[Floats, Floats]:
    """Return middle and width of each mel band, Hz, shape (side,)."""
    mel = np.linspace(0, 2595 * np.log10(1 + _TOP_HZ / 700), side + 2)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    return hertz[1:-1].astype(np.float32), ((hertz[2:] - hertz[:-2]) / 2).astype(np.float32)


def _voice(random: np.random.Generator, formants: Floats, loudness: Floats, side: int) -> Floats:
    """Return the power of the voiced part, shape (items, side, side), of formants, shape (items, side, 4), in Hz."""
    items = len(formants)
    middle, width = _bands(side)
    envelope = np.zeros((items, side, side), dtype=np.float32)
    bandwidths = _BANDWIDTHS * random.uniform(0.8, 1.6, (items, 1, _FORMANTS))
    for index in range(_FORMANTS):
        gap = (middle[None, :, None] - formants[:, None, :, index]) / (bandwidths[:, :, index, None] + 0.5 * width[None, :, None])
        envelope += 10 ** (-0.45 * index) / (1 + gap**2)
    tilt = (1 + middle / 500.0)[None, :, None] ** random.uniform(-2.0, -0.5, (items, 1, 1))
    return single(envelope * tilt * _comb(random, items, middle, width) * (loudness**2)[:, None, :])


def _comb(random: np.random.Generator, items: int, middle: Floats, width: Floats) -> Floats:
    """Return what the pitch leaves of each band, shape (items, side, side): stripes where harmonics lie further apart than bands."""
    side = len(middle)
    low, high = np.log(_PITCH_HZ)
    begin = np.exp(random.uniform(low, high, (items, 1)))
    pitch = begin * np.exp(np.linspace(0, 1, side)[None] * random.normal(-0.1, 0.2, (items, 1)))
    depth = np.sinc(width[None, :, None] / pitch[:, None, :])
    return single(np.maximum(1 + 0.95 * depth * np.cos(2 * np.pi * middle[None, :, None] / pitch[:, None, :]), 0.02))


def _noise(random: np.random.Generator, word: _Word, sound: NDArray[np.int64], loudness: Floats, scale: Floats, side: int) -> Floats:
    """Return the power of hisses and bursts, shape (items, side, side)."""
    middle, _ = _bands(side)
    place = word.hiss_hz[sound][:, None, :] * scale * random.normal(1, _HABIT, (len(sound), 1, 1))
    gap = (middle[None, :, None] - place) / (word.hiss_width[sound][:, None, :] * place)
    grain = random.gamma(3.0, 1 / 3.0, (len(sound), side, side))
    return single(0.15 * np.exp(-(gap**2)) * grain * (loudness**2)[:, None, :])


def _seen(random: np.random.Generator, power: Floats) -> Floats:
    """Return pictures of a power, shape (items, side, side), 0..1: in a room, on a floor of noise, as this microphone takes each band.

    Each band is shown against its own mean over time, most of which the service's networks take away from a spectrogram too.
    """
    items, side = power.shape[:2]
    rung = _rung(random, power)
    loudest = np.maximum(rung.max(axis=(1, 2), keepdims=True), 1e-9)
    color = np.linspace(0, 1, side, dtype=np.float32)[None, :, None] * random.uniform(-3, 1, (items, 1, 1))
    floor = np.exp(random.uniform(*_FLOOR, (items, 1, 1)) + color) * random.gamma(4.0, 0.25, (items, side, side))
    bend = random.normal(0, 1, (items, 4)) @ np.cos(np.outer(np.arange(1, 5), np.linspace(0, np.pi, side)))
    grain = random.normal(0, _GRAIN, (items, side, side))
    log = np.log(rung / loudest + floor) + bend[:, :, None] + grain
    narrow = random.random((items, 1, 1)) < _NARROW
    top = side * np.where(narrow, random.uniform(0.5, 1.0, (items, 1, 1)), 1.0)
    log = np.where(np.arange(side)[None, :, None] < top, log, log.min(axis=(1, 2), keepdims=True) + grain)
    return single((0.5 + (log - _CENTERING * log.mean(axis=2, keepdims=True)) / _DYNAMIC).clip(0, 1))


def _rung(random: np.random.Generator, power: Floats) -> Floats:
    """Return the power, shape (items, side, side), as half of the rooms let it ring: what was loud is heard a little longer."""
    items, side = power.shape[:2]
    seconds = random.uniform(0.02, 0.12, (items, 1))  # of the picture's width, until a third is left
    kept = np.exp(-1 / (side * seconds)) * (random.random((items, 1)) < 0.5)
    rung = np.empty_like(power)
    last = np.zeros((items, side), dtype=np.float32)
    for column in range(side):
        last = np.maximum(power[:, :, column], kept * last)
        rung[:, :, column] = last
    return rung
