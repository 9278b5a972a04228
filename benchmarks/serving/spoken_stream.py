"""Words laid into noise with known ends: what the detections of a stream are judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from app.demo.handwriting import WORDS
from app.demo.speech import Voice, synthesizer
from app.demo.spoken import TEST_VOICES
from models.streaming_detector import Detection

_AUDIBLE = 0.02  # of a word's peak: below lies what the synthesizer appends
_FIRST_SECONDS = 4.0  # of noise before the first word: the background is known by then
_GAP_SECONDS = (0.7, 1.6)
_NOISE_DB = 20.0  # of speech over noise, as in the training set
_EARLY, _LATE = 0.1, 1.0  # seconds between which a detection belongs to a word: after its begin, after its end


@dataclass(frozen=True)
class Word:
    """One word and where it sounds."""

    label: str
    start: float  # seconds
    end: float  # seconds


@dataclass(frozen=True)
class Track:
    """A stream of words by voices that the model has not heard."""

    samples: NDArray[np.int16]  # (n,), mono
    sample_rate: int  # Hz
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Score:
    """How the words of a track were detected."""

    hits: int
    wrong: int
    """another word was detected where one sounded"""
    missed: int
    false_alarms: int
    """detections where no word sounded"""
    delays: tuple[float, ...]
    """seconds from the end of a word to its event, of the hits; below zero: before it had ended"""


def spoken_track(sample_rate: int, voices: Sequence[Voice] = TEST_VOICES, *, seed: int = 0) -> Track:
    """Return every word by every voice, in mixed order, in steady noise."""
    random = np.random.default_rng(seed)
    speak = synthesizer()
    order = [(word, voice) for voice in voices for word in WORDS]
    random.shuffle(order)
    pieces = [np.zeros(int(_FIRST_SECONDS * sample_rate))]
    words = []
    for word, voice in order:
        speech = soxr.resample(_trimmed(speak.say(word, voice, seed=1)).astype(np.float64), speak.sample_rate, sample_rate)
        start = sum(map(len, pieces)) / sample_rate
        words.append(Word(word, start, start + len(speech) / sample_rate))
        pieces += [speech / np.sqrt(np.mean(speech**2)) * 3000, np.zeros(int(random.uniform(*_GAP_SECONDS) * sample_rate))]
    clean = np.concatenate(pieces)
    noisy = clean + random.normal(0, 3000 * 10 ** (-_NOISE_DB / 20), clean.shape)
    return Track(np.clip(np.rint(noisy), -32768, 32767).astype(np.int16), sample_rate, tuple(words))


def _trimmed(speech: NDArray[np.int16]) -> NDArray[np.int16]:
    loud = np.flatnonzero(np.abs(speech.astype(np.int32)) > _AUDIBLE * np.abs(speech.astype(np.int32)).max())
    return speech[loud[0] : loud[-1] + 1]


def scored(words: Sequence[Word], events: Sequence[tuple[str, float]]) -> Score:
    """Return the score of `events`, each a label and when it came in seconds of the stream, in order."""
    left = list(events)
    delays, wrong, missed = [], 0, 0
    for word in words:
        here = [event for event in left if word.start + _EARLY <= event[1] <= word.end + _LATE]
        right = [event for event in here if event[0] == word.label]
        taken = (right or here)[:1]
        left = [event for event in left if event not in taken]
        delays += [event[1] - word.end for event in right[:1]]
        wrong += bool(taken) and not right
        missed += not taken
    return Score(len(delays), wrong, missed, len(left), tuple(delays))


def events_of(detections: Sequence[Detection]) -> list[tuple[str, float]]:
    """Return detections as `scored` takes them."""
    return [(found.label, found.position) for found in detections]
