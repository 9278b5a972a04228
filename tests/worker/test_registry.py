"""Models and the names that point at them; artifacts that come from elsewhere."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.artifact import save_artifact
from models.config import FeatureConfig, JobSpec, Modality, ModelManifest, NetworkConfig, Normalization
from models.errors import ArtifactError, SynesthesiaError
from models.network import build_network
from tests.rig import add_dataset, add_job, change_row
from worker.aliases import delete_alias, get_alias, list_aliases, set_alias, take_default
from worker.database import new_id, read, write
from worker.errors import ConflictError, GoneError, NotFoundError
from worker.jobs import cancel_job, create_job
from worker.registry import (
    ARTIFACT_FILES,
    add_model,
    delete_model,
    find_base_model,
    get_evaluation,
    get_model,
    import_model,
    list_backbones,
    list_models,
    model_directory,
    resolve_id,
)
from worker.settings import Settings
from worker.storage import get_storage, new_scratch

torch.set_num_threads(1)


def manifest_of(modality: Modality = "audio") -> ModelManifest:
    network = NetworkConfig(
        modality=modality, architecture="resnet_tiny", labels=("no", "yes"),
        features=FeatureConfig(n_mels=16, hop_ms=20.0, clip_seconds=0.25, image_size=16),
        normalization=Normalization(mean=(0.0,) * (16 if modality == "audio" else 3), std=(1.0,) * (16 if modality == "audio" else 3)),
    )  # fmt: skip
    return ModelManifest(network=network, layers={"stem": 10, "head": 5}, files={"model.safetensors": "ab" * 32}, parameters=15)


def add(modality: Modality = "audio", name: str | None = None) -> str:
    """A model of which there is nothing but a row and its description."""
    folder = new_scratch("model")
    (folder / "model.json").write_text(manifest_of(modality).model_dump_json())
    model_id = new_id("mdl")
    blob = get_storage().publish_directory(folder, f"artifacts/{model_id}")
    with write() as session:
        add_model(session, manifest=manifest_of(modality), evaluation={"splits": {}}, blob=blob, size_bytes=2, model_id=model_id, name=name)
    return model_id


def code_of(ask: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(SynesthesiaError) as raised:
        ask(*arguments)
    return raised.value.code


def test_a_model_says_what_it_is(settings: Settings) -> None:
    model_id = add(name="first")
    model = get_model(model_id)
    assert (model["id"], model["object"], model["name"], model["modality"], model["labels"]) == (
        model_id, "model", "first", "audio", ["no", "yes"],
    )  # fmt: skip
    assert model["layers"] == [{"name": "stem", "parameters": 10}, {"name": "head", "parameters": 5}]
    assert (model["sha256"], model["aliases"], model["parameters"]) == ("ab" * 32, [], 15)
    assert get_evaluation(model_id) == {"object": "evaluation", "model": model_id, "splits": {}}
    found, folder = model_directory(model_id)
    assert (found, [path.name for path in folder.iterdir()]) == (model_id, ["model.json"])


def test_lists_go_on_and_filter(settings: Settings) -> None:
    models = [add("image", "a"), add("audio", "a"), add("audio", "b")]
    assert [model["id"] for model in list_models().data] == models[::-1]
    page = list_models(limit=1)
    assert ([model["id"] for model in page.data], page.has_more) == ([models[2]], True)
    assert [model["id"] for model in list_models(after=models[2]).data] == [models[1], models[0]]
    assert [model["id"] for model in list_models(modality="image").data] == [models[0]]
    assert [model["id"] for model in list_models(name="a").data] == [models[1], models[0]]


def test_an_alias_can_be_moved_and_moved_back(settings: Settings) -> None:
    old, new = add(), add()
    assert set_alias("live", old)["model"] == old
    assert set_alias("live", new)["model"] == new
    assert (resolve_id("live"), get_model("live")["aliases"], get_model(old)["aliases"]) == (new, ["live"], [])
    set_alias("live", old)
    set_alias("also", "live")  # an alias of an alias names the model, not the name
    set_alias("live", new)
    assert {alias["name"]: alias["model"] for alias in list_aliases()} == {"also": old, "live": new}
    delete_alias("live")
    assert code_of(get_alias, "live") == "alias_not_found"
    assert code_of(delete_alias, "live") == "alias_not_found"
    assert get_model(new)["id"] == new


def test_the_default_is_taken_once(settings: Settings) -> None:
    assert code_of(get_model, "default") == "no_default_model"
    first, second = add(), add()
    for model_id in (first, second):
        with write() as session:
            take_default(session, model_id)
    assert resolve_id("default") == first


def test_what_is_used_is_not_deleted(settings: Settings) -> None:
    model_id = add()
    set_alias("live", model_id)
    assert code_of(delete_model, model_id) == "model_in_use"
    delete_alias("live")
    job_id = add_job()
    for state in ("queued", "paused"):
        change_row(job_id, base_model_id=model_id, state=state)
        assert code_of(delete_model, model_id) == "model_in_use"
    cancel_job(job_id)
    delete_model(model_id)
    for ask in (get_model, delete_model, resolve_id, model_directory, get_evaluation):
        with pytest.raises(GoneError):
            ask(model_id)
    with pytest.raises(GoneError):
        set_alias("live", model_id)
    assert list_models().data == []
    assert not (settings.data_dir / "blobs" / "artifacts" / model_id).exists()


@pytest.mark.parametrize("ask", [get_model, resolve_id, delete_model, get_evaluation, model_directory])
def test_what_is_not_there(settings: Settings, ask: Callable[[str], Any]) -> None:
    with pytest.raises(NotFoundError) as raised:
        ask("mdl_0")
    assert raised.value.code == "model_not_found"


def test_what_a_job_can_build_on(settings: Settings) -> None:
    model_id = add("image")
    set_alias("digits", model_id)
    with read() as session:
        own = find_base_model(session, "digits")
        assert (own.model_id, own.architecture, own.has_weights, own.layers) == (model_id, "resnet_tiny", True, ("stem", "head"))
        bare = find_base_model(session, "resnet_tiny")
        assert (bare.model_id, bare.has_weights, bare.layers[0]) == (None, False, "stem")
        assert find_base_model(session, "timm/resnet18.a1_in1k").has_weights
        with pytest.raises(NotFoundError) as raised:
            find_base_model(session, "nothing")
        assert raised.value.code == "base_model_not_found"
    kinds = {backbone["id"]: backbone["kind"] for backbone in list_backbones()}
    assert kinds[model_id] == "model"
    assert kinds["resnet_tiny"] == "architecture"


def test_local_timm_weights_are_listed(change_setting: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18.safetensors").touch()
    change_setting(timm_dir=tmp_path / "weights")
    assert [backbone["id"] for backbone in list_backbones() if backbone["kind"] == "timm"] == ["timm/resnet18"]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    manifest = manifest_of()
    save_artifact(folder, build_network(manifest.network, seed=1), manifest=manifest, evaluation={"splits": {}})
    return folder


def tar_of(folder: Path, target: Path, *, leave_out: str = "", **members: bytes) -> Path:
    with tarfile.open(target, "w") as tar:
        for name in ARTIFACT_FILES:
            if name != leave_out:
                tar.add(folder / name, name)
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "../"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return target


def test_an_artifact_that_went_out_comes_in_again(settings: Settings, artifact: Path, tmp_path: Path) -> None:
    model = import_model(tar_of(artifact, tmp_path / "in.tar"), name="guest")
    assert (model["name"], model["job"], model["labels"]) == ("guest", None, ["no", "yes"])
    assert model["layers"][0]["name"] == "stem"
    _, folder = model_directory(str(model["id"]))
    assert {path.name for path in folder.iterdir()} == set(ARTIFACT_FILES)
    assert set_alias("guest", str(model["id"]))["model"] == model["id"]


@pytest.mark.parametrize("kind", ["extra", "outside", "missing", "damaged", "no tar", "link"])
def test_an_artifact_that_is_none_leaves_nothing(settings: Settings, artifact: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "in.tar"
    if kind == "extra":
        tar_of(artifact, target, evil_py=b"import os")
    elif kind == "outside":
        tar_of(artifact, target, __escaped=b"x")
    elif kind == "missing":
        tar_of(artifact, target, leave_out="model.onnx")
    elif kind == "damaged":
        copy = tmp_path / "copy"
        shutil.copytree(artifact, copy)
        weights = copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
        tar_of(copy, target)
    elif kind == "no tar":
        target.write_bytes(b"PK\x03\x04 not a tar")
    else:
        with tarfile.open(target, "w") as tar:
            info = tarfile.TarInfo("model.json")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    with pytest.raises(ArtifactError):
        import_model(target)
    assert list_models().data == []
    assert list(settings.scratch_dir.iterdir()) == []
    assert not (tmp_path / "escaped").exists()


def test_a_job_holds_its_base_model_by_id(settings: Settings) -> None:
    model_id = add("image")
    set_alias("digits", model_id)
    job = create_job(JobSpec(dataset=add_dataset(), base_model="digits"))
    assert job["base_model"] == "digits"
    delete_alias("digits")
    with pytest.raises(ConflictError):
        delete_model(model_id)
