"""What is ranked: by name, by default, and what has heard the clips before."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from models.catalog import architectures
from models.config import FeatureConfig, JobSpec, LineageEntry, Modality, ModelManifest, NetworkConfig, Normalization
from models.errors import ConfigError
from models.transferability import TransferabilitySpec
from tests.rig import add_dataset, row
from worker.aliases import point_alias
from worker.bases import base_orders
from worker.candidates import candidate_orders, create_ranking
from worker.database import Dataset, Model, new_id, read, write
from worker.errors import ConflictError, GoneError, NotFoundError
from worker.jobs import create_job
from worker.owners import View, seen_by
from worker.registry import add_model, delete_model
from worker.settings import Settings, get_settings
from worker.storage import get_storage, new_scratch
from worker.work import WORK, job_folder

MakeModel = Callable[..., str]


@pytest.fixture
def make_model(settings: Settings) -> MakeModel:
    """Add a model that says it was trained on some datasets; its weights are never read here."""

    def make(*datasets: str, modality: Modality = "image", sha256: str = "9" * 64) -> str:
        model_id = new_id("mdl")
        network = NetworkConfig(
            modality=modality, architecture="resnet_tiny", labels=("a", "b"), features=FeatureConfig(clip_seconds=1.0, image_size=28),
            normalization=Normalization(mean=(0.0,) * 3, std=(1.0,) * 3),
        )  # fmt: skip
        lineage = tuple(
            LineageEntry(model=None, job=None, dataset=name, dataset_sha256=sha256, modality=modality, architecture="resnet_tiny")
            for name in datasets
        )
        manifest = ModelManifest(network=network, lineage=lineage, files={"model.safetensors": "5" * 64})
        folder = new_scratch("model")
        (folder / "model.json").write_text(manifest.model_dump_json())
        blob = get_storage().publish_directory(folder, f"artifacts/{model_id}")
        with write() as session:
            add_model(session, manifest=manifest, evaluation={}, blob=blob, size_bytes=1, model_id=model_id, name=None)
        return model_id

    return make


def spec(dataset: str, *names: str) -> TransferabilitySpec:
    return TransferabilitySpec(dataset=dataset, candidates=names or None)


def test_a_ranking_is_a_job(settings: Settings, make_model: MakeModel) -> None:
    dataset = add_dataset()
    job = create_ranking(spec(dataset, make_model(), "seed_cnn"))
    assert (job["type"], job["status"], job["dataset"], job["result"]) == ("transferability", "queued", dataset, None)
    assert (job["transfer"], job["hyperparameters"], job["base_model"]) == ({}, {}, None)
    stored = row(str(job["id"]))
    assert TransferabilitySpec.model_validate(stored.spec, strict=False).candidates is not None
    assert stored.queue == "train"


def test_what_can_not_be_ranked_is_refused_at_once(settings: Settings, make_model: MakeModel) -> None:
    with pytest.raises(ConfigError) as refused:
        create_ranking(spec(add_dataset(modality="image")))
    assert refused.value.param == "dataset"
    with pytest.raises(ConflictError):
        create_ranking(spec(add_dataset(status="processing")))
    dataset = add_dataset()
    with pytest.raises(NotFoundError) as unknown:
        create_ranking(spec(dataset, "seed_cnn", "nobody"))
    assert (unknown.value.code, unknown.value.param) == ("base_model_not_found", "candidates")
    assert "'nobody'" in unknown.value.message
    with pytest.raises(ConfigError):
        create_ranking(spec(dataset, "auto"))
    gone = make_model()
    delete_model(gone)
    with pytest.raises(GoneError):
        create_ranking(spec(dataset, gone))


def test_names_become_orders(settings: Settings, make_model: MakeModel) -> None:
    dataset, model = add_dataset(), make_model("ds_other")
    with write() as session:
        point_alias(session, "pictures", model)
    orders, skipped = candidate_orders(spec(dataset, "pictures", model, "seed_cnn", "timm/resnet18"))
    assert [(order.name, order.kind, order.architecture) for order in orders] == [
        ("pictures", "model", "resnet_tiny"),
        ("seed_cnn", "random", "seed_cnn"),
        ("timm/resnet18", "timm", "timm/resnet18"),
    ]
    assert skipped == ()
    assert (orders[0].sha256, orders[0].has_seen_dataset) == ("5" * 64, False)
    assert orders[0].directory == get_storage().fetch_directory(f"artifacts/{model}")


def test_what_went_away_meanwhile_is_named(settings: Settings, make_model: MakeModel) -> None:
    dataset, deleted, lost = add_dataset(), make_model(), make_model()
    delete_model(deleted)
    get_storage().delete(f"artifacts/{lost}")
    orders, skipped = candidate_orders(spec(dataset, deleted, lost, "seed_cnn"))
    assert [order.name for order in orders] == ["seed_cnn"]
    assert [(found.candidate, found.code) for found in skipped] == [(deleted, "model_deleted"), (lost, "blob_missing")]


def test_the_default_is_all_that_has_not_heard_the_clips(settings: Settings, make_model: MakeModel) -> None:
    dataset = add_dataset()
    pictures = [make_model("ds_pictures") for _ in range(12)]
    spoken, heard = make_model("ds_spoken", modality="audio"), make_model(dataset, modality="audio")
    orders, _ = candidate_orders(spec(dataset))
    names = [order.name for order in orders]
    assert set(architectures()) <= set(names)
    assert [name for name in names if name in pictures] == list(reversed(pictures))[:10]
    assert spoken in names
    assert heard not in names


def test_relatives_of_the_dataset_count_as_heard(settings: Settings, make_model: MakeModel) -> None:
    parent, child, other, copy = add_dataset(), add_dataset(), add_dataset(), add_dataset()
    with write() as session:
        session.execute(update(Dataset).where(Dataset.id == child).values(parent=parent, sha256="1" * 64))
        session.execute(update(Dataset).where(Dataset.id == copy).values(sha256="7" * 64))
    models = {name: make_model("ds_pictures", name) for name in (parent, child, other)}
    again = make_model("ds_elsewhere", sha256="7" * 64)  # the same archive, uploaded twice
    for dataset, heard in ((parent, {parent, child}), (child, {parent, child}), (other, {other})):
        orders, _ = candidate_orders(spec(dataset, *models.values()))
        assert {name for name, model in models.items() for order in orders if order.name == model and order.has_seen_dataset} == heard
    [order], _ = candidate_orders(spec(copy, again))
    assert order.has_seen_dataset


def test_parents_in_a_ring_end(settings: Settings, make_model: MakeModel) -> None:
    first, second = add_dataset(), add_dataset()
    with write() as session:
        session.execute(update(Dataset).where(Dataset.id == first).values(parent=second))
        session.execute(update(Dataset).where(Dataset.id == second).values(parent=first))
    [order], _ = candidate_orders(spec(first, make_model(second)))
    assert order.has_seen_dataset


def test_a_model_row_without_files_in_reach_is_the_storage_s_word(settings: Settings, make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    with write() as session:
        session.execute(update(Model).where(Model.id == model).values(blob="artifacts/nowhere"))
    _, [skipped] = candidate_orders(spec(add_dataset(), model))
    assert skipped.code == "blob_missing"


def test_by_default_an_owner_s_own_models_are_ranked_and_built_on(settings: Settings, make_model: MakeModel) -> None:
    """Whoever asks: an administrator's job on somebody's recordings is that one's, and uses no other's pictures."""
    models, datasets = {}, {}
    for owner in ("", "ann", "bob"):
        with seen_by(View(owner, sees_all=False)):
            models[owner], datasets[owner] = make_model("ds_pictures"), add_dataset(blob="datasets/x")
    (get_settings().scratch_dir / "x").mkdir(parents=True)
    get_storage().publish_directory(get_settings().scratch_dir / "x", "datasets/x")
    for owner, dataset in datasets.items():
        ranking, job = row(str(create_ranking(spec(dataset))["id"])), row(str(create_job(JobSpec(dataset=dataset))["id"]))
        assert (ranking.owned_by, job.owned_by) == (owner, owner)
        order = json.loads(WORK[ranking.type].start(ranking, job_folder(ranking.id)).order)
        assert {found["name"] for found in order["candidates"] if found["kind"] == "model"} == {models[owner]}
        with read() as session:
            assert {base.model_id for base in base_orders(session, job)} == {None, models[owner]}
