"""A trained network as files, and back. The only place that reads weights: safetensors, never pickle."""

import datetime as dt
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from models import bundled
from models.backbones.timm_models import PREFIX
from models.card import model_card
from models.config import GoldenRecord, ModelManifest
from models.errors import ArtifactError, ConfigError
from models.export import export_onnx
from models.files import write_durably
from models.golden import golden_bytes, library_versions
from models.golden_making import Examples, make_golden
from models.manifest import CARD, EVALUATION, GOLDEN, GRAPH, HASHED, MANIFEST, WEIGHTS, read_manifest, sha256_of, verify_files
from models.network import Network, build_network

_LIBRARIES = ("synesthesia", "torch", "numpy", "safetensors", "onnx", "onnxruntime")


def save_artifact(
    folder: Path, network: Network, *, manifest: ModelManifest, evaluation: dict[str, Any], examples: Examples | None = None
) -> ModelManifest:
    """Write all files of an artifact into `folder`, each fsynced, model.json last; return the manifest with what follows from them.

    Of `manifest`, network, parameters, layers, golden, files and versions are filled in here, and created_at (now) where it is empty.
    `examples` become golden clips, beside noise and silence.
    Raises ArtifactError as `export_onnx` does, ValueError where `evaluation` (evaluation.json's content) holds a number that is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    golden = make_golden(network, examples)
    manifest = manifest.model_copy(
        update={
            "network": network.config,
            "parameters": network.parameter_count(),
            "layers": network.layer_sizes(),
            "golden": GoldenRecord(clips=len(golden.clips), made_with=library_versions()),
            "versions": _versions(network.config.architecture),
            "created_at": manifest.created_at or dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
    )
    write_durably(folder / WEIGHTS, save(_tensors(network), {"format": "pt"}))
    export_onnx(network, folder / GRAPH)
    write_durably(folder / GOLDEN, golden_bytes(golden))
    write_durably(folder / EVALUATION, json.dumps(evaluation, allow_nan=False).encode())
    write_durably(folder / CARD, model_card(manifest, evaluation).encode())
    manifest = manifest.model_copy(update={"files": {name: sha256_of(folder / name) for name in HASHED}})
    write_durably(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return manifest


def load_artifact(folder: Path) -> tuple[Network, ModelManifest]:
    """Return the network of a verified artifact, on the CPU and in evaluation mode, and its manifest.

    Raises ArtifactError, with the file as `param`, where files are missing, damaged or don't fit together.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    try:
        network = build_network(manifest.network)
    except ConfigError as error:
        raise ArtifactError(f"{MANIFEST} describes no network: {error.message}", param=MANIFEST) from error
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:  # torch's word for keys or shapes that differ
        reason = " ".join(str(error).split())[:300]
        raise ArtifactError(f"{WEIGHTS} does not hold this network's weights: {reason}", param=WEIGHTS) from error
    return network.eval(), manifest


def load_bundled() -> Network:
    """Return the backbone that comes with the package, on the CPU, in evaluation mode; it has no head. Raises ArtifactError."""
    described = bundled.bundled_backbone()
    if sha256_of(bundled.WEIGHTS) != described.sha256:
        raise ArtifactError(f"{bundled.WEIGHTS.name} is damaged", param=bundled.WEIGHTS.name, hint="install the package again")
    network = build_network(described.network)
    network.load_state_dict(load_file(bundled.WEIGHTS))
    return network.eval()


def _tensors(network: Network) -> dict[str, torch.Tensor]:
    """Return the weights as they are stored: on the CPU, in plain order, no two in one memory."""
    return {key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for key, tensor in network.state_dict().items()}


def _versions(architecture: str) -> dict[str, str]:
    names = (*_LIBRARIES, "timm") if architecture.startswith(PREFIX) else _LIBRARIES
    return {"python": platform.python_version()} | {name: found for name in names if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # the project itself, run from a folder that is not installed
        return None
