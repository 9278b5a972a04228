"""A minute of fuzzing in every run, each time with other inputs: the seed stands in the message of a failure."""

import io
import random
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from models.audio import AudioLimits, decode_audio
from models.config import FeatureConfig
from models.errors import ConfigError, MediaError
from models.features import log_mel
from models.quick_features import QuickLogMel
from models.riff import read_riff

SECONDS = 30.0
SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
LENGTHS = (0, 1, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 16, 18, 40)


def for_a_while(seconds: float, attempt: Callable[[random.Random], None]) -> int:
    """Run attempts with seeds that nobody knows beforehand; name the one that fails."""
    first = random.SystemRandom().getrandbits(48)
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        try:
            attempt(random.Random(first + count))
        except Exception as error:
            raise AssertionError(f"seed {first + count}: {error!r}") from error
        count += 1
    return count


def wav(chance: random.Random, subtype: str) -> bytes:
    numbers = np.random.default_rng(chance.getrandbits(32))
    frames, channels = chance.randint(1, 300), chance.randint(1, 8)
    data = io.BytesIO()
    kind = chance.choice(("WAV", "WAVEX", "RF64"))
    soundfile.write(data, numbers.uniform(-1, 1, (frames, channels)), chance.choice((8000, 16000, 44100)), subtype, format=kind)
    return data.getvalue()


def damaged(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(max(1, min(len(changed), chance.choice((64, len(changed))))))
        act = chance.randrange(5)
        if act == 0:
            changed[at : at + 1] = bytes([chance.getrandbits(8)])
        elif act == 1:
            changed[at : at + 4] = struct.pack("<I", chance.choice((*LENGTHS, len(changed), len(changed) - at)))
        elif act == 2:
            del changed[at : at + chance.randint(1, 60)]
        elif act == 3:
            changed[at:at] = chance.randbytes(chance.randint(1, 20))
        else:
            changed[at:at] = changed[at : at + chance.randint(1, 40)]
    return bytes(changed)


def test_the_riff_reader_agrees_with_soundfile_and_survives_damage() -> None:
    def attempt(chance: random.Random) -> None:
        data = wav(chance, chance.choice(SUBTYPES))
        found = read_riff(data).samples()
        expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        assert np.array_equal(found, expected), "bit for bit"
        for _ in range(20):
            broken = damaged(chance, data)
            began = time.perf_counter()
            try:
                decode_audio(broken, limits=AudioLimits(max_seconds=1.0))
            except MediaError:
                pass
            assert time.perf_counter() - began < 2, "no file may take seconds"

    assert for_a_while(SECONDS, attempt) > 20


def test_the_log_mels_are_the_reference_ones_for_any_configuration() -> None:
    def attempt(chance: random.Random) -> None:
        config = FeatureConfig(
            sample_rate=chance.randint(8000, 48000),
            n_mels=chance.randint(16, 128),
            window_ms=chance.uniform(5, 100),
            hop_ms=chance.uniform(2, 60),
            clip_seconds=chance.uniform(0.2, 0.6),
        )
        try:
            front = QuickLogMel(config)
        except ConfigError:
            return
        numbers = np.random.default_rng(chance.getrandbits(32))
        clip = numbers.uniform(-1, 1, (1, round(float(config.clip_seconds) * config.sample_rate))).astype(np.float32)
        clip *= np.float32(chance.choice((1.0, 1e-2, 1e-4, 0.0)))
        found, expected = np.exp(front(clip)), np.exp(log_mel(clip, config))
        # 1e-4 of each band; where one is near the floor beside loud ones, what float32 rounds of the loudest.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9 * float(expected.max()))

    assert for_a_while(SECONDS, attempt) > 20


def test_the_fuzzer_names_the_seed_of_a_failure() -> None:
    def attempt(chance: random.Random) -> None:
        raise ValueError(chance.random())

    with pytest.raises(AssertionError, match=r"seed \d+: ValueError"):
        for_a_while(1, attempt)
