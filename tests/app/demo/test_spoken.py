import csv
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.demo.handwriting import WORDS
from app.demo.speech import Voice, synthesizer
from app.demo.spoken import SPLITS, TAKES, TEST_VOICES, clips, write_spoken
from models.errors import UnavailableError

pytest.importorskip("espeakng_loader")


def test_speakers_have_names_of_their_own_and_stand_in_one_split() -> None:
    voices = [voice for split in SPLITS.values() for voice in split]
    assert len({voice.speaker for voice in voices}) == len(voices)
    assert all(voice.speaker == voice.speaker.lower() and "+" not in voice.speaker for voice in voices)
    assert len(TEST_VOICES) >= 10


def test_a_word_is_heard() -> None:
    speak = synthesizer()
    assert synthesizer() is speak
    spoken = speak.say("seven", Voice("en-us"))
    assert spoken.dtype == np.int16
    assert 0.2 < len(spoken) / speak.sample_rate < 2.0
    assert np.abs(spoken).max() > 3000
    assert len(speak.say("seven", Voice("en-us", words_per_minute=300))) < 0.8 * len(spoken)


def test_a_voice_that_is_not_there() -> None:
    with pytest.raises(UnavailableError, match="no voice 'xx-nobody'"):
        synthesizer().say("one", Voice("xx-nobody"))


@pytest.mark.parametrize("voice", [voice for split in SPLITS.values() for voice in split], ids=lambda voice: voice.name)
def test_every_voice_of_the_demo_is_there(voice: Voice) -> None:
    assert len(synthesizer().say("one", voice)) > 1000


def test_the_archive(tmp_path: Path) -> None:
    made = write_spoken(tmp_path / "a.zip")
    assert len(made) == len(WORDS) * sum(TAKES[split] * len(voices) for split, voices in SPLITS.items())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("metadata.csv").decode())))
        assert {row["file_name"] for row in rows} | {"metadata.csv"} == set(archive.namelist())
        samples, rate = soundfile.read(io.BytesIO(archive.read(rows[0]["file_name"])), dtype="int16")
    assert (rate, len(samples)) == (made[0].sample_rate, len(made[0].samples))
    splits = {split: {row["speaker"] for row in rows if row["split"] == split} for split in SPLITS}
    assert not splits["train"] & splits["test"]
    assert set(Counter((row["split"], row["label"]) for row in rows).values()) == {TAKES[split] * len(SPLITS[split]) for split in SPLITS}


def test_no_two_clips_are_the_same() -> None:
    speak = synthesizer()
    made = clips(speak.sample_rate, speak)
    assert len({clip.samples.tobytes() for clip in made}) == len(made)
    assert len({clip.file_name for clip in made}) == len(made)
