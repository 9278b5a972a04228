"""What all tests share: a fresh data directory with its database, caches cleared, and small sounds and pictures."""

import contextlib
import io
import os
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from numpy.typing import NDArray

from models.config import AugmentationConfig
from worker.settings import Settings, get_settings

_SERVICE_URLS = ("DATABASE_URL", "REDIS_URL", "BLOB_URL")
RATE = 16000
NO_AUGMENTATION = AugmentationConfig(
    time_shift=False, spec_augment=False, noise=False, speed=False, tempo=False, echo=False, warp=False, flip=False, crop=False
)
# The same examples on every run; no deadline, as cores are shared. A test's own @settings add to this.
hypothesis_settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis_settings.load_profile("repeatable")
FUZZ_FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))  # times as many examples, for a run that may take longer


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A data directory of its own with a migrated SQLite database; what processes keep for ever is forgotten before and after."""
    from worker.migrate import upgrade

    for name in _SERVICE_URLS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path / "data"))
    forget()
    upgrade()
    yield get_settings()
    forget()


def forget() -> None:
    """Clear every cache of settings, connections and storage."""
    from worker import queue
    from worker.database import get_engine
    from worker.storage import get_storage

    if get_engine.cache_info().currsize:
        get_engine().dispose()
    for cached in (get_settings, get_engine, get_storage):
        cached.cache_clear()
    if hasattr(queue._celery, "cache_clear"):  # a test may have put a broker of its own there
        queue._celery.cache_clear()


@pytest.fixture
def change_setting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Set settings by their field names; connections are made anew."""

    def change(**values: Any) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"SYNESTHESIA_{name.upper()}", str(value))
        forget()
        return get_settings()

    return change


@contextlib.contextmanager
def answering(server: socketserver.BaseServer) -> Iterator[None]:
    """Let a server of the standard library answer until the block ends, which ends it."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tone(hertz: float, seconds: float = 0.5, *, rate: int = RATE, level: float = 0.5, seed: int | None = None) -> NDArray[np.float32]:
    """A sine, with a little noise where a seed is given: float32 (n_samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * hertz * time)
    if seed is not None:
        wave = wave + np.random.default_rng(seed).normal(0, 0.02 * level, wave.shape)
    return wave.astype(np.float32)


def wav_bytes(waveform: NDArray[Any], rate: int = RATE) -> bytes:
    """Mono samples, or (n_samples, channels), as 16-bit PCM WAV."""
    import soundfile

    sink = io.BytesIO()
    soundfile.write(sink, waveform, rate, format="WAV", subtype="PCM_16")
    return sink.getvalue()


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (height, width) or (height, width, 3) as PNG."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def zip_bytes(files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of name → content."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def sound_archive(*, words: int = 3, speakers: int = 4, takes: int = 3, seed: int = 0) -> bytes:
    """A zip of tones with a metadata.csv: word = base frequency, speaker = detuning. Easy to learn in seconds."""
    rows = ["file_name,label,speaker"]
    files: dict[str, bytes] = {}
    for word in range(words):
        for speaker in range(speakers):
            for take in range(takes):
                name = f"s{speaker}/w{word}-{take}.wav"
                hertz = 300 * (1 + word) * (1 + 0.02 * speaker + 0.003 * take)
                files[name] = wav_bytes(tone(hertz, 0.5, seed=seed + 1000 * word + 100 * speaker + take))
                rows.append(f"{name},word{word},speaker{speaker}")
    files["metadata.csv"] = "\n".join(rows).encode()
    return zip_bytes(files)


def picture_archive(*, labels: int = 3, items: int = 20, side: int = 28, seed: int = 0) -> bytes:
    """A zip of grey stripes, one folder a label: label = direction and width of the stripes."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    files: dict[str, bytes] = {}
    for label in range(labels):
        for item in range(items):
            angle = np.pi * label / labels
            wave = np.sin(0.9 * (np.cos(angle) * rows + np.sin(angle) * columns) + random.uniform(0, 6))
            noisy = 127 + 90 * wave + random.normal(0, 15, wave.shape)
            files[f"stripe{label}/{item:03d}.png"] = png_bytes(np.clip(noisy, 0, 255).astype(np.uint8))
    return zip_bytes(files, method=zipfile.ZIP_STORED)
