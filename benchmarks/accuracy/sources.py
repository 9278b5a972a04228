"""What the runs begin with, made once by the service itself: packed data, and models of real pictures, of other words, or of nothing."""

import random
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from app.client import Client
from app.commands.progress import watch
from app.demo.service import running_service

SOURCE_ARCHIVES = {  # arm → archive
    "mnist": "mnist-images",
    "grocery": "grocery-images",
    "arabic": "speech-commands-arabic",
    "random_labels": "random-labels",
}
_BEGINS_WITH = {"speech-commands-arabic": "bundled"}  # as a user's speech model would; the image models begin with nothing
_SHUFFLED, _EVERY = "mnist-images", 6  # what random-labels is made of: one picture of six


def dataset_folder(work: Path, archive: str) -> Path:
    """Return where a packed archive lies."""
    return work / "datasets" / archive


def source_folder(work: Path, archive: str) -> Path:
    """Return where the artifact of the model that was trained on another archive lies."""
    return work / "sources" / archive


def prepared_sources(data: Path, work: Path, archive: str, arms: Iterable[str]) -> None:
    """Pack the archive and train the models that `arms` need, where `work` does not hold them already."""
    sources = [SOURCE_ARCHIVES[arm] for arm in arms if arm in SOURCE_ARCHIVES]
    wanted = [name for name in sources if not source_folder(work, name).exists()]
    if dataset_folder(work, archive).exists() and not wanted:
        return
    with (
        tempfile.TemporaryDirectory(prefix="synesthesia-curve-") as name,
        running_service(Path(name)) as url,
        Client(url) as client,
    ):
        _pack(client, data / f"{archive}.zip", Path(name), dataset_folder(work, archive))
        for source in wanted:
            made = source == SOURCE_ARCHIVES["random_labels"]
            pictures = _shuffled(data / f"{_SHUFFLED}.zip", Path(name) / f"{source}.zip") if made else data / f"{source}.zip"
            _train(client, pictures, source_folder(work, source))


def _pack(client: Client, archive: Path, service: Path, target: Path) -> str:
    dataset = client.wait_dataset(str(client.upload_dataset(archive, name=archive.stem)["id"]))
    if dataset["status"] != "ready":
        raise SystemExit(f"{archive.name}: {dataset['error']}")
    packed = next((service / "blobs" / "datasets").glob(f"{dataset['id']}-*"))
    if not target.exists():
        shutil.copytree(packed, target)
    return str(dataset["id"])


def _shuffled(archive: Path, target: Path) -> Path:
    """Write an archive of some of the pictures, each with a label of its own drawing, and return where it is."""
    draw = random.Random(0)
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for index, member in enumerate([member for member in old.namelist() if member.endswith(".png")][::_EVERY]):
            new.writestr(f"{draw.randrange(10)}/{index}.png", old.read(member))
    return target


def _train(client: Client, archive: Path, target: Path) -> None:
    dataset = client.wait_dataset(str(client.upload_dataset(archive, name=archive.stem)["id"]))
    body = {"dataset": dataset["id"], "base_model": _BEGINS_WITH.get(archive.stem, "resnet_tiny")}
    job = watch(client, str(client.post("/jobs", body)["id"]))
    if job["status"] != "succeeded":
        raise SystemExit(f"{archive.name}: {job['error']}")
    target.mkdir(parents=True)
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        client.download(f"/models/{job['model']}/artifact", Path(file.name))
        with tarfile.open(file.name) as tar:
            tar.extractall(target, filter="data")
