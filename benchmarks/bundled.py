"""The recipe of the bundled backbone: pictures by formula → dataset → pretrain job → its layers, without the classifier, into the package.

    .venv/bin/python benchmarks/bundled.py [--recipe FILE] [--target FOLDER]

Everything goes through the service's own API, so the recipe is two request bodies (RECIPE below): anyone can post them and get the same.
"""

import argparse
import hashlib
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save

from app.client import Client, Json
from app.commands.progress import watch
from app.demo.service import running_service
from models.artifact import load_artifact
from models.bundled import FOLDER, BundledBackbone
from models.files import write_durably

RECIPE: dict[str, Any] = {
    "dataset": {"generator": "formants", "labels": 1000, "items_per_label": 100, "seed": 0, "image_size": 40, "name": "formants"},
    "job": {
        "base_model": "resnet_tiny",
        "hyperparameters": {"epochs": 5, "batch_size": 64},
        "augmentation": {"erase": True},
        "seed": 0,
        "name": "bundled",
    },
}
_LARGEST = 5 * 2**20  # bytes: the package carries them


def main() -> None:
    """Make the backbone and write it where `models.bundled` finds it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, help="a JSON file with other bodies than RECIPE's")
    parser.add_argument("--target", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    recipe = json.loads(arguments.recipe.read_text()) if arguments.recipe else RECIPE
    with (
        tempfile.TemporaryDirectory(prefix="synesthesia-bundled-") as name,
        running_service(Path(name)) as url,
        Client(url) as client,
    ):
        artifact = _trained(client, recipe, Path(name))
        _keep(artifact, recipe, arguments.target)


def _trained(client: Client, recipe: Json, folder: Path) -> Path:
    """Return the folder of the artifact that the recipe's job makes."""
    dataset = client.wait_dataset(str(client.post("/datasets", recipe["dataset"])["id"]))
    if dataset["status"] != "ready":
        raise SystemExit(f"the dataset failed: {dataset['error']}")
    job = watch(client, str(client.post("/jobs", {**recipe["job"], "dataset": dataset["id"]})["id"]))
    if job["status"] != "succeeded":
        raise SystemExit(f"the job failed: {job['error']}")
    client.download(f"/models/{job['model']}/artifact", folder / "artifact.tar")
    with tarfile.open(folder / "artifact.tar") as tar:
        tar.extractall(folder / "artifact", filter="data")
    return folder / "artifact"


def _keep(artifact: Path, recipe: Json, target: Path) -> None:
    network, manifest = load_artifact(artifact)
    tensors = {f"backbone.{key}": tensor.contiguous() for key, tensor in network.backbone.state_dict().items()}
    weights = save(tensors, {"format": "pt"})
    if len(weights) > _LARGEST:
        raise SystemExit(f"{len(weights)} bytes of weights are more than the package should carry ({_LARGEST})")
    described = BundledBackbone(
        network=manifest.network.model_copy(update={"labels": ()}),
        layers=manifest.layers,
        sha256=hashlib.sha256(weights).hexdigest(),
        lineage=manifest.lineage,
        recipe=recipe,
        metrics=manifest.metrics,
    )
    target.mkdir(parents=True, exist_ok=True)
    write_durably(target / "backbone.safetensors", weights)
    write_durably(target / "backbone.json", described.model_dump_json(indent=1).encode() + b"\n")
    print(f"{len(weights) / 2**20:.1f} MB of weights are in {target}")


if __name__ == "__main__":
    main()
