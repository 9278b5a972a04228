"""What every peer serves: the same weights, as a plain torch module, as an ONNX graph, or through the service's own engine.

The torch side is what a tutorial would do: soundfile, torchaudio's MelSpectrogram, a timm network. The service's code is imported by
the variants that are named after its engine, and by nothing else.
"""

import argparse
import functools
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
TOP_K = 5
CORES = len(os.sched_getaffinity(0))
# Frameworks batch up to this many in their tuned variants; the model's own curve is flat from eight on.
BATCH = 16


@dataclass(frozen=True)
class Options:
    """The command line of every peer."""

    variant: str
    port: int
    artifact: Path


def options(*variants: str) -> Options:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", choices=variants, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--artifact", type=Path, required=True)
    return Options(**vars(parser.parse_args()))


def export(chosen: Options) -> None:
    """Write the options into the environment, for frameworks that build their model in another process."""
    os.environ["PEER_OPTIONS"] = json.dumps({"variant": chosen.variant, "port": chosen.port, "artifact": str(chosen.artifact)})


def exported() -> Options:
    """Return what `export` wrote."""
    found = json.loads(os.environ["PEER_OPTIONS"])
    return Options(found["variant"], found["port"], Path(found["artifact"]))


def one_thread() -> None:
    """Give torch one thread, as its documentation asks for where processes share the cores."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)


class TorchModel:
    """Soundfile → torchaudio → timm, eager, float32."""

    def __init__(self, artifact: Path) -> None:
        """Read the weights and labels of the artifact; nothing of the service's code is used."""
        import torchaudio  # noqa: PLC0415
        from safetensors.torch import load_file  # noqa: PLC0415
        from torch import nn  # noqa: PLC0415

        described = json.loads((artifact / "model.json").read_text())["network"]
        self.labels: list[str] = described["labels"]
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=described["features"]["sample_rate"], n_fft=512, win_length=400, hop_length=160, n_mels=64, pad_mode="constant"
        )
        weights = load_file(artifact / "model.safetensors")
        self.backbone = _timm(described["architecture"], weights)
        self.head = nn.Linear(weights["head.weight"].shape[1], len(self.labels)).eval()
        self.head.load_state_dict({"weight": weights["head.weight"], "bias": weights["head.bias"]})
        self.mean, self.std = (_column(described["normalization"][name]) for name in ("mean", "std"))

    def waveform(self, data: bytes) -> Any:
        """Return a tensor, shape (n_samples,), of a file's bytes."""
        import soundfile  # noqa: PLC0415
        import torch  # noqa: PLC0415

        samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        return torch.from_numpy(samples)

    def probabilities(self, waveforms: Any) -> Any:
        """Return a tensor, shape (batch, classes), of waveforms, shape (batch, n_samples)."""
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            log_mel = torch.log(self.mel(waveforms) + 1e-5)
            normalized = (log_mel - self.mean) / self.std
            centered = normalized - 0.8 * normalized.mean(dim=2, keepdim=True)
            return torch.softmax(self.head(self.backbone(centered.unsqueeze(1))), dim=1)

    def batch(self, sounds: list[bytes]) -> list[Answer]:
        """Return an answer for each file, computed together."""
        import torch  # noqa: PLC0415

        found = self.probabilities(torch.stack([self.waveform(data) for data in sounds])).numpy()
        return [top(self.labels, row) for row in found]


class OnnxModel:
    """Soundfile → ONNX Runtime with one thread, as there is a process a core; the graph holds the features."""

    def __init__(self, artifact: Path) -> None:
        """Open the artifact's graph."""
        import onnxruntime  # noqa: PLC0415

        self.labels: list[str] = json.loads((artifact / "model.json").read_text())["network"]["labels"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(artifact / "model.onnx", options, providers=["CPUExecutionProvider"])

    def batch(self, sounds: list[bytes]) -> list[Answer]:
        """Return an answer for each file, computed together."""
        import numpy as np  # noqa: PLC0415
        import soundfile  # noqa: PLC0415

        waveforms = np.stack([soundfile.read(io.BytesIO(data), dtype="float32")[0] for data in sounds])
        (found,) = self.session.run(["probabilities"], {"waveform": waveforms})
        return [top(self.labels, row) for row in found]


class EngineModel:
    """The service's decoder and engine, inside another framework."""

    def __init__(self, artifact: Path) -> None:
        """Load the artifact as the service does."""
        from models.engine import Engine  # noqa: PLC0415

        self.engine = Engine.load(artifact)

    def batch(self, sounds: list[bytes]) -> list[Answer]:
        """Return an answer for each file, computed together."""
        import numpy as np  # noqa: PLC0415

        from models.audio import decode_audio, fit_clip  # noqa: PLC0415
        from models.features import clip_samples  # noqa: PLC0415

        features = self.engine.manifest.network.features
        decoded = [decode_audio(data, sample_rate=features.sample_rate).waveform for data in sounds]
        clips = np.stack([fit_clip(waveform, clip_samples(features)) for waveform in decoded])
        return [top(list(self.engine.labels), row) for row in self.engine.probabilities(clips)]


class NoModel:
    """Nothing but the framework: the answer is as long as the others' and knows the body's length."""

    def __init__(self, artifact: Path) -> None:
        """There is nothing to load."""
        del artifact

    def batch(self, sounds: list[bytes]) -> list[Answer]:
        """Return an answer for each file."""
        return [{"top_k": [{"label": f"word_{i:02d}", "probability": len(data) / 2**20} for i in range(TOP_K)]} for data in sounds]


Model = TorchModel | OnnxModel | EngineModel | NoModel
MODELS: dict[str, type[Model]] = {
    "default": TorchModel,
    "best": TorchModel,
    "onnx": OnnxModel,
    "engine": EngineModel,
    "noop": NoModel,
}


@functools.cache
def model() -> Model:
    """Return this process's model, by the exported options; tuned variants give it one thread, as there is a process a core."""
    chosen = exported()
    if chosen.variant == "best":
        one_thread()
    return MODELS[chosen.variant](chosen.artifact)


def top(labels: list[str], probabilities: Any) -> Answer:
    """Return the likeliest labels, as the service does, for a row of shape (classes,)."""
    order = probabilities.argsort()[::-1][:TOP_K]
    return {"top_k": [{"label": labels[i], "probability": round(float(probabilities[i]), 6)} for i in order]}


def _timm(architecture: str, weights: dict[str, Any]) -> Any:
    import timm  # noqa: PLC0415

    network = timm.create_model(architecture.removeprefix("timm/"), pretrained=False, in_chans=1, num_classes=0)
    prefix = "backbone.model."
    network.load_state_dict({key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)})
    return network.eval()


def _column(values: list[float]) -> Any:
    import torch  # noqa: PLC0415

    return torch.tensor(values).view(1, -1, 1)
