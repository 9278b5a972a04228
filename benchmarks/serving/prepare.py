"""What all servers share: one speech model as files and in a data directory, one clip, and a virtual environment for the peers.

As a program it makes the model, in a process of its own so that the benchmark's has no torch:

    python benchmarks/serving/prepare.py --artifact FOLDER --data FOLDER
"""

import argparse
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
RATE = 16000
CLIPS = 3  # the first is what the servers are timed with
ARCHITECTURE = "timm/mobilenetv3_small_100"
N_LABELS = 35  # as many as Speech Commands has words
_SPREAD = 3.0  # standard deviation of the logits: a near-uniform answer would agree with any other
_SETTLING_STEPS = 20


def clip(number: int) -> bytes:
    """Return one second of a gliding tone in noise, 16 kHz, 16 bit, mono, as a WAV file: 32,044 bytes."""
    generator = np.random.default_rng(number)
    seconds = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * (300 + 200 * number) * seconds * (1 + (number + 1) * seconds))
    samples = 0.4 * tone + 0.05 * (1 + number) * generator.standard_normal(RATE)
    return wav((32767 * np.clip(samples, -1, 1)).astype("<i2"))


def wav(samples: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> bytes:
    """Return 16 kHz mono samples as the bytes of a WAV file."""
    import io  # noqa: PLC0415

    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return sink.getvalue()


def prepare(work: Path) -> None:
    """Make in `work` whatever is not there yet: client, model, data directory, peers."""
    work.mkdir(parents=True, exist_ok=True)
    for folder in work.glob("haproxy-*"):  # Ray's, of earlier calls
        shutil.rmtree(folder)
    subprocess.run(["cc", "-O2", "-o", work / "load", HERE / "load.c"], check=True)
    if not (work / "artifact" / "model.json").exists():
        for name in ("artifact", "data"):
            shutil.rmtree(work / name, ignore_errors=True)
        command = [sys.executable, __file__, "--artifact", work / "artifact", "--data", work / "data"]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    install_peers(work)


def peers_python(work: Path) -> Path:
    """Return the interpreter of the peers' environment."""
    return work / "peers" / "bin" / "python"


def install_peers(work: Path) -> None:
    """Install the peers as pinned, once for each state of the list."""
    stamp = work / "peers" / "installed.txt"
    if stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text():
        return
    uv = ROOT / ".uv" / "bin" / "uv"
    if not peers_python(work).exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, work / "peers"], check=True)
    # Ours are compiled when they are installed: theirs, too, or their start would be longer than it is.
    options = ["--quiet", "--compile-bytecode", "--python", peers_python(work)]
    subprocess.run([uv, "pip", "install", *options, "--requirements", REQUIREMENTS], check=True)
    shutil.copyfile(REQUIREMENTS, stamp)


def make_model(folder: Path) -> None:
    """Write the artifact: random weights, as speed does not depend on them, but answers that tell clips apart."""
    import torch  # noqa: PLC0415

    from models.artifact import save_artifact  # noqa: PLC0415
    from models.config import FeatureConfig, ModelManifest, NetworkConfig, Normalization  # noqa: PLC0415
    from models.evaluation import evaluation_document  # noqa: PLC0415
    from models.network import build_network  # noqa: PLC0415

    config = NetworkConfig(
        modality="audio",
        architecture=ARCHITECTURE,
        labels=tuple(f"word_{number:02d}" for number in range(N_LABELS)),
        features=FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=1.0, image_size=64),
        normalization=Normalization(mean=(-4.0,) * 64, std=(3.0,) * 64),
    )
    network = build_network(config, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        network.train()
        for _ in range(_SETTLING_STEPS):  # batch normalization sees what it normalizes, or every clip gets the same answer
            network(_log_mels(16))
        network.eval()
        logits = network(_log_mels(64))
        network.head.weight *= _SPREAD / logits.std()  # type: ignore[operator]
        network.head.bias.zero_()  # type: ignore[operator, union-attr]
    save_artifact(folder, network, manifest=ModelManifest(network=config), evaluation=evaluation_document({}))


def _log_mels(batch: int):  # noqa: ANN202 - torch is imported where it is needed
    """Return log-mels, shape (batch, 64, 101), of clips like the benchmark's."""
    import torch  # noqa: PLC0415

    from models.config import FeatureConfig  # noqa: PLC0415
    from models.features import log_mel  # noqa: PLC0415

    first = int(torch.randint(0, 1000, ()))
    waveforms = [np.frombuffer(clip(number % 12), "<i2", offset=44) / np.float32(32768) for number in range(first, first + batch)]
    return torch.from_numpy(log_mel(np.stack(waveforms).astype(np.float32), FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=1.0)))


def make_noop(source: Path, folder: Path) -> None:
    """Write an artifact like `source` whose graph computes nothing: what is left of a request is the service itself."""
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    from models.manifest import GRAPH, MANIFEST, read_manifest, sha256_of  # noqa: PLC0415

    shutil.copytree(source, folder)
    constants = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in _SLICE.items()]
    nodes = [
        helper.make_node("Slice", ["waveform", *_SLICE], ["few"]),
        helper.make_node("Softmax", ["few"], ["probabilities"], axis=1),
    ]
    takes = [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", RATE])]
    gives = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", N_LABELS])]
    graph = helper.make_graph(nodes, "noop", takes, gives, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), folder / GRAPH)
    manifest = read_manifest(folder)
    manifest = manifest.model_copy(update={"files": manifest.files | {GRAPH: sha256_of(folder / GRAPH)}})
    (folder / MANIFEST).write_text(manifest.model_dump_json())


_SLICE = {"starts": [0], "ends": [N_LABELS], "axes": [1]}


def register(artifact: Path, alias: str) -> None:
    """Take an artifact into the service's data directory, under an alias."""
    from models.manifest import read_manifest  # noqa: PLC0415
    from worker.aliases import point_alias  # noqa: PLC0415
    from worker.database import new_id, write  # noqa: PLC0415
    from worker.registry import add_model  # noqa: PLC0415
    from worker.storage import get_storage, new_scratch  # noqa: PLC0415

    model_id, folder = new_id("mdl"), new_scratch("benchmark")
    shutil.copytree(artifact, folder, dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in folder.iterdir())
    blob = get_storage().publish_directory(folder, f"artifacts/{model_id}")
    with write() as session:
        add_model(session, manifest=read_manifest(artifact), evaluation={"splits": {}}, blob=blob, size_bytes=size, model_id=model_id)
        point_alias(session, alias, model_id)


def main() -> None:
    """Make the model and the data directory that serves it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["SYNESTHESIA_DATA_DIR"] = str(arguments.data.absolute())
    from worker.migrate import upgrade  # noqa: PLC0415 - the settings are read from the environment at the first call

    upgrade()
    made = arguments.artifact.with_name("artifact-in-work")
    shutil.rmtree(made, ignore_errors=True)
    make_model(made)
    register(made, "default")
    noop = made.with_name("artifact-noop")
    shutil.rmtree(noop, ignore_errors=True)
    make_noop(made, noop)
    register(noop, "noop")
    made.rename(arguments.artifact)


if __name__ == "__main__":
    main()
