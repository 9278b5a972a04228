"""What a worker names by itself: only models that answer as they did when they were made."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from models.artifact import save_artifact
from models.config import FeatureConfig, ModelManifest, NetworkConfig, Normalization
from models.evaluation import evaluation_document
from models.golden import GoldenReport
from models.manifest import GRAPH, read_manifest
from models.network import build_network
from tests.golden_rig import spoil
from tests.rig import add_dataset, add_job, change_row, events, row
from worker.aliases import get_alias
from worker.database import Alias, Job, Model, new_id, read
from worker.errors import ConflictError, NotFoundError
from worker.lease import claim
from worker.orders import preview_folder
from worker.owners import View, seen_by
from worker.previews import publish_preview
from worker.promotion import REFUSAL, refusal, require_passed
from worker.settings import Settings
from worker.work import WORK, job_folder

LABELS = ("no", "yes")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = NetworkConfig(
        modality="audio", architecture="resnet_tiny", labels=LABELS, features=FeatureConfig(n_mels=16, hop_ms=20.0, clip_seconds=0.25),
        normalization=Normalization(mean=(-4.0,) * 16, std=(3.0,) * 16),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("saved")
    save_artifact(folder, build_network(config, seed=1), manifest=ModelManifest(network=config), evaluation=evaluation_document({}))
    return folder


def start(alias: str | None = None) -> Job:
    job_id = add_job(add_dataset())
    change_row(job_id, alias=alias)
    claimed = claim(job_id, "here:1")
    assert claimed is not None
    return claimed.job


def copy_of(saved: Path, target: Path, *, spoilt: bool) -> dict[str, Any]:
    """Copy the artifact as a trainer leaves it; return its manifest."""
    shutil.copytree(saved, target)
    if spoilt:
        spoil(target, 0.05)
    return read_manifest(target).model_dump(mode="json")


def publish(job: Job, saved: Path, *, spoilt: bool) -> str:
    """Let a job end with a copy of the artifact; return the model."""
    folder = job_folder(job.id)
    result = {
        "model_id": new_id("mdl"), "manifest": copy_of(saved, folder / f"start-{job.token}", spoilt=spoilt), "metrics": {"epochs": 1.0},
        "evaluation": evaluation_document({}), "checkpoint": {"step": 1, "epoch": 1, "metrics": {}}, "progress": {"fraction": 1.0},
        "cancelled": False,
    }  # fmt: skip
    assert WORK[job.type].succeed(job, folder, result)
    return str(result["model_id"])


def preview(job: Job, saved: Path, *, spoilt: bool) -> str:
    """Publish a copy of the artifact as a job's first answer; return the model."""
    folder, model_id = job_folder(job.id), new_id("mdl")
    manifest = copy_of(saved, preview_folder(folder, job.token), spoilt=spoilt)
    publish_preview(job, folder, {"model_id": model_id, "manifest": manifest, "evaluation": evaluation_document({}), "metrics": {}})
    return model_id


def evaluation_of(model_id: str) -> dict[str, Any]:
    with read() as session:
        return session.get_one(Model, model_id).evaluation


def alias_of(name: str) -> str | None:
    try:
        return str(get_alias(name)["model"])
    except NotFoundError:
        return None


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_trained_model_takes_names_only_where_it_answers_as_it_should(settings: Settings, saved: Path, spoilt: bool) -> None:
    job = start("digits")
    model_id = publish(job, saved, spoilt=spoilt)
    assert {alias_of(name) for name in ("digits", "default")} == {None if spoilt else model_id}
    assert row(job.id).state == "succeeded", "the model is there all the same"
    assert (REFUSAL in evaluation_of(model_id)) is spoilt
    told = [event for event in events(job.id) if event.data.get("code") == "promotion_refused"]
    assert [event.level for event in told] == ["warning"] * spoilt
    assert all(f"no name points at model {model_id}: its golden clip 'noise'" in event.message for event in told)


@pytest.mark.parametrize("spoilt", [False, True])
def test_so_does_a_first_answer(settings: Settings, saved: Path, spoilt: bool) -> None:
    model_id = preview(start(), saved, spoilt=spoilt)
    assert alias_of("default") == (None if spoilt else model_id)
    assert (REFUSAL in evaluation_of(model_id)) is spoilt


@pytest.mark.parametrize("spoilt", [False, True])
def test_names_stay_with_a_first_answer_where_what_follows_is_refused(settings: Settings, saved: Path, spoilt: bool) -> None:
    job = start("digits")
    first = preview(job, saved, spoilt=False)
    last = publish(job, saved, spoilt=spoilt)
    assert {alias_of(name) for name in ("digits", "default")} == {first if spoilt else last}


def test_a_first_answer_that_was_refused_does_not_keep_names_from_what_follows(settings: Settings, saved: Path) -> None:
    job = start("digits")
    preview(job, saved, spoilt=True)
    last = publish(job, saved, spoilt=False)
    assert {alias_of(name) for name in ("digits", "default")} == {last}


def test_a_model_whose_artifact_cant_be_used_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "artifact"))
    assert refusal(folder, read_manifest(folder)) is None
    (folder / GRAPH).write_bytes(b"broken")
    assert "model.onnx is damaged" in str(refusal(folder, read_manifest(folder)))


def test_a_model_without_golden_clips_is_not_held_up(tmp_path: Path, saved: Path) -> None:
    older = read_manifest(saved).model_copy(update={"golden": None})
    assert refusal(tmp_path / "nothing is read", older) is None
    require_passed("mdl_1", None)


def test_the_refusal_says_what_to_do() -> None:
    report = GoldenReport(float(np.inf), "silence", ("silence",), {"onnxruntime": "1.0"}, {"onnxruntime": "2.0"})
    with pytest.raises(ConflictError) as raised:
        require_passed("mdl_1", report)
    assert (raised.value.code, raised.value.param) == ("promotion_refused", "model")
    assert "'silence' is answered inf off" in raised.value.message
    assert "made with onnxruntime 1.0, now 2.0" in raised.value.message
    assert "go back to the libraries" in str(raised.value.hint)


def test_what_a_job_makes_and_names_is_its_owners(settings: Settings, saved: Path) -> None:
    made = {}
    for owner in ("ann", "bob"):
        with seen_by(View(owner, sees_all=False)):
            job = start("digits")
        made[owner] = preview(job, saved, spoilt=False), publish(job, saved, spoilt=False)  # by a worker, who sees all
    with read() as session:
        owners = {model.id: model.owned_by for model in session.scalars(select(Model))}
        names = {(alias.owned_by, alias.name): alias.model_id for alias in session.scalars(select(Alias))}
    assert owners == {model_id: owner for owner, models in made.items() for model_id in models}
    assert names == {(owner, name): models[1] for owner, models in made.items() for name in ("digits", "default")}
