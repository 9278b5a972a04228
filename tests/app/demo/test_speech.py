"""The synthesizer repeats from process to process: the demo's sounds, and with them its numbers, are the same everywhere."""

import subprocess
import sys

import pytest

pytest.importorskip("espeakng_loader")
SCRIPT = """
import hashlib
from app.demo.speech import Voice, synthesizer
digest = hashlib.sha256()
for voice in (Voice("en-us"), Voice("en-gb-x-rp+croak", 160, 50, 50), Voice("en-us+whisper", 145)):
    for word in ("zero", "seven"):
        digest.update(synthesizer().say(word, voice, seed=3).tobytes())
print(digest.hexdigest())
"""


def test_the_same_words_sound_the_same_in_every_process() -> None:
    digests = {subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout for _ in range(2)}
    assert len(digests) == 1


def test_without_the_wheel_there_is_a_hint() -> None:
    script = """
import sys
sys.modules["espeakng_loader"] = None
from app.demo.speech import synthesizer
from models.errors import UnavailableError
try:
    synthesizer()
except UnavailableError as error:
    print(error.hint)
"""
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert answer.strip() == "pip install 'synesthesia[demo]'"
