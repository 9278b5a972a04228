"""Spoken digits, synthesised: each voice is a speaker, and the test voices are not heard in training."""

import csv
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.demo.handwriting import WORDS
from app.demo.speech import Synthesizer, Voice, synthesizer
from app.media import zip_entry
from models.playable import to_wav

# Accents and throats of espeak-ng 1.52; rates in words a minute and pitches 0 to 100 are spread so that no split has only one kind.
# With a third training voice random weights sometimes hear 96 % of the test voices' words, and nothing can be shown; with two, 86 to 89.
TRAIN_VOICES = (
    Voice("en-us", 160, 45, 50),
    Voice("en-gb-scotland+f2", 150, 55, 60),
)
VALIDATION_VOICES = (
    Voice("en-gb-x-rp+f4", 165, 50, 55),
    Voice("en-us+m5", 145, 35, 45),
)
TEST_VOICES = (
    Voice("en-us+f1", 170, 60, 60),
    Voice("en-us-nyc", 155, 50, 50),
    Voice("en-gb-x-gbclan+m1", 150, 35, 45),
    Voice("en-gb-x-gbcwmd+f5", 165, 65, 55),
    Voice("en-gb-scotland+m7", 180, 40, 60),
    Voice("en-029+f3", 140, 55, 50),
    Voice("en-us+klatt", 150, 45, 40),
    Voice("en-gb-x-rp+croak", 160, 50, 50),
    Voice("en-us+Annie", 150, 60, 55),
    Voice("en-us+whisper", 145, 50, 50),
)
SPLITS = {"train": TRAIN_VOICES, "validation": VALIDATION_VOICES, "test": TEST_VOICES}
TAKES = {"train": 1, "validation": 2, "test": 2}

_TAKE_RATE = 12  # words a minute from one take to the next
_TAKE_PITCH = 8
_NOISE_DB = 20.0  # speech over white noise: a quiet room
_MARGIN_SECONDS = (0.05, 0.25)  # of noise before and after the word


@dataclass(frozen=True)
class Clip:
    """One row of metadata.csv with its sound."""

    file_name: str
    label: str
    speaker: str
    split: str
    samples: NDArray[np.int16]  # (n_samples,)
    sample_rate: int  # Hz


def clips(sample_rate: int, speak: Synthesizer) -> list[Clip]:
    """Return every digit by every voice, in a fixed order, as espeak-ng's sounds depend on it."""
    random = np.random.default_rng(0)
    made = []
    for split, voices in SPLITS.items():
        for voice in voices:
            for take in range(TAKES[split]):
                turned = Voice(voice.name, voice.words_per_minute + take * _TAKE_RATE, voice.pitch + take * _TAKE_PITCH, voice.pitch_range)
                for word in WORDS:
                    samples = _in_a_room(speak.say(word, turned, seed=take), sample_rate, random)
                    made.append(Clip(f"{voice.speaker}/{word}-{take}.wav", word, voice.speaker, split, samples, sample_rate))
    return made


def write_spoken(target: Path) -> list[Clip]:
    """Write a zip of WAV files with a metadata.csv; return what is in it. Raises UnavailableError without espeak-ng."""
    speak = synthesizer()
    made = clips(speak.sample_rate, speak)
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(("file_name", "label", "speaker", "split"))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for clip in made:
            archive.writestr(zip_entry(clip.file_name), to_wav(clip.samples, clip.sample_rate))
            rows.writerow((clip.file_name, clip.label, clip.speaker, clip.split))
        archive.writestr(zip_entry("metadata.csv"), table.getvalue())
    return made


def _in_a_room(speech: NDArray[np.int16], sample_rate: int, random: np.random.Generator) -> NDArray[np.int16]:
    """Return the word with margins, in noise: int16, shape (n_samples,)."""
    before, after = (int(sample_rate * seconds) for seconds in random.uniform(*_MARGIN_SECONDS, 2))
    padded = np.pad(speech.astype(np.float64), (before, after))
    loudness = np.sqrt(np.mean(speech.astype(np.float64) ** 2))
    noisy = padded + random.normal(0, loudness * 10 ** (-_NOISE_DB / 20), padded.shape)
    return np.clip(np.rint(noisy), -32768, 32767).astype(np.int16)
