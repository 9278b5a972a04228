"""What a request is made of, in one process with one thread: decoding, resampling, features, model, each beside its peers.

Runs in the peers' environment, which has all of them; prints raw rows as JSON.
"""

import argparse
import io
import json
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import soxr
import torch
import torchaudio
from common import OnnxModel, TorchModel
from prepare import RATE, clip

from models.audio import decode_audio
from models.config import FeatureConfig
from models.engine import Engine
from models.features import log_mel
from models.riff import read_riff

Row = dict[str, Any]
Work = Callable[[], Any]
_SECONDS = 0.06  # of one measurement; there are as many as runs, interleaved
_BATCHES = (1, 2, 4, 8, 16, 32)
_FEATURES = FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=1.0)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(mode=False)
    engine = Engine.load(arguments.artifact)
    groups = {**_decoders(), **_resamplers(), **_front_ends(), **_ways(arguments.artifact, engine), **_model(engine)}
    rows = [row for group, works in groups.items() for row in _measure(group, works, arguments.runs)]
    json.dump([*rows, *_exactness()], sys.stdout)


def _measure(group: str, works: dict[str, Work], runs: int) -> list[Row]:
    for work in works.values():  # caches, lazily built tables
        work()
        work()
    counts = {name: max(1, int(_SECONDS / max(1e-6, _once(work)))) for name, work in works.items()}
    found = []
    for run in range(runs):
        for name, work in works.items():
            began = time.perf_counter()
            for _ in range(counts[name]):
                work()
            found.append({"row": group, "server": name, "run": run, "us": 1e6 * (time.perf_counter() - began) / counts[name]})
    return found


def _once(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _encodings() -> dict[str, bytes]:
    """Return one second as a WAV file in each encoding that most files have."""
    samples = _waveform()
    made = {}
    for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT"):
        sink = io.BytesIO()
        soundfile.write(sink, samples, RATE, format="WAV", subtype=subtype)
        made[subtype] = sink.getvalue()
    return made


def _waveform() -> "np.ndarray[Any, np.dtype[np.float32]]":
    return decode_audio(clip(0)).waveform


def _decoders() -> dict[str, dict[str, Work]]:
    """F1: bytes to float32 samples. The stdlib reads 16 bits with numpy's help; librosa reads through soundfile."""
    groups: dict[str, dict[str, Work]] = {}
    for subtype, data in _encodings().items():
        works: dict[str, Work] = {
            "ours (models.riff)": lambda data=data: read_riff(data).samples(),
            "ours, all checks (models.audio)": lambda data=data: decode_audio(data),
            "soundfile": lambda data=data: soundfile.read(io.BytesIO(data), dtype="float32"),
            "librosa": lambda data=data: librosa.load(io.BytesIO(data), sr=None),
        }
        if subtype == "PCM_16":
            works["stdlib wave"] = lambda data=data: _stdlib(data)
        groups[f"F1 {subtype}"] = works
    return groups


def _stdlib(data: bytes) -> "np.ndarray[Any, np.dtype[np.float32]]":
    with wave.open(io.BytesIO(data)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)


def _resamplers() -> dict[str, dict[str, Work]]:
    """F2: one second from 44.1 to 16 kHz."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 44100).astype(np.float32)
    tensor = torch.from_numpy(samples)
    kept = torchaudio.transforms.Resample(44100, RATE)
    return {
        "F2": {
            "ours (soxr HQ)": lambda: soxr.resample(samples, 44100, RATE, quality="HQ"),
            "torchaudio.transforms.Resample": lambda: kept(tensor),
            "torchaudio.functional.resample": lambda: torchaudio.functional.resample(tensor, 44100, RATE),
            "librosa": lambda: librosa.resample(samples, orig_sr=44100, target_sr=RATE),
        }
    }


def _front_ends() -> dict[str, dict[str, Work]]:
    """F3: one second to 64 log-mels every 10 ms."""
    waveform = _waveform()[None]
    tensor = torch.from_numpy(waveform)
    mel = _torchaudio_mel()
    kaldi = {"sample_frequency": RATE, "num_mel_bins": 64, "dither": 0.0}
    return {
        "F3": {
            "ours (models.features, numpy)": lambda: log_mel(waveform, _FEATURES),
            "torchaudio MelSpectrogram": lambda: torch.log(mel(tensor) + 1e-5),
            "torchaudio kaldi.fbank": lambda: torchaudio.compliance.kaldi.fbank(tensor, **kaldi),
            "librosa": lambda: _librosa_mel(waveform[0]),
        }
    }


def _torchaudio_mel() -> Any:
    return torchaudio.transforms.MelSpectrogram(sample_rate=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=64, pad_mode="constant")


def _librosa_mel(waveform: "np.ndarray[Any, np.dtype[np.float32]]") -> "np.ndarray[Any, Any]":
    options = {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 64, "htk": True, "norm": None, "pad_mode": "constant"}
    return np.log(librosa.feature.melspectrogram(y=waveform, sr=RATE, **options) + 1e-5)


def _ways(artifact: Path, engine: Engine) -> dict[str, dict[str, Work]]:
    """F4: bytes of a WAV file to probabilities."""
    eager, onnx, data = TorchModel(artifact), OnnxModel(artifact), clip(0)
    return {
        "F4": {
            "ours (decode_audio, Engine)": lambda: engine.predict(decode_audio(data)),
            "soundfile, torchaudio, torch": lambda: eager.probabilities(eager.waveform(data)[None]),
            "soundfile, ONNX Runtime": lambda: onnx.batch([data]),
        }
    }


def _model(engine: Engine) -> dict[str, dict[str, Work]]:
    """Return the engine by batch size: features and network, as the graph holds both."""
    clips = np.repeat(_waveform()[None], max(_BATCHES), axis=0)
    return {"engine": {f"batch {size}": lambda size=size: engine.probabilities(clips[:size]) for size in _BATCHES}}


def _exactness() -> list[Row]:
    """Return how far our reader and features are from those of others: 0 is bit-exact."""
    rows = []
    for subtype, data in _encodings().items():
        theirs = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
        rows.append({"row": f"F1 {subtype}", "server": "difference", "run": 0, "difference": _distance(read_riff(data).samples(), theirs)})
    waveform = _waveform()[None]
    theirs = torch.log(_torchaudio_mel()(torch.from_numpy(waveform)) + 1e-5).numpy()
    rows.append({"row": "F3", "server": "difference", "run": 0, "difference": _distance(log_mel(waveform, _FEATURES), theirs)})
    return rows


def _distance(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float:
    return float(np.abs(one - other).max())


if __name__ == "__main__":
    main()
