"""A model's files are those that the database knows, for whoever reads them: a folder that is sound in itself may be another's."""

import shutil
from pathlib import Path

import pytest

from models.config import JobSpec
from models.manifest import read_manifest
from models.transferability import TransferabilitySpec
from tests.app.conftest import write_speech_artifact
from tests.rig import add_dataset, events, row
from worker.aliases import locate
from worker.candidates import candidate_orders
from worker.database import Model, new_id, write
from worker.errors import DependencyError
from worker.jobs import create_job
from worker.model_files import fetch_located, fetch_model
from worker.registry import add_model, model_directory
from worker.settings import Settings
from worker.storage import get_storage, new_scratch
from worker.supervisor import supervise


@pytest.fixture
def model(settings: Settings) -> Model:
    """A model with its files."""
    folder, model_id = write_speech_artifact(new_scratch("model")), new_id("mdl")
    manifest = read_manifest(folder)
    blob = get_storage().publish_directory(folder, f"artifacts/{model_id}")
    with write() as session:
        return add_model(session, manifest=manifest, evaluation={}, blob=blob, size_bytes=1, model_id=model_id)


@pytest.fixture
def exchanged(model: Model, settings: Settings) -> Model:
    """The same, with the files of another one in their place: nothing is wrong with those."""
    folder = settings.data_dir / "blobs" / model.blob
    shutil.rmtree(folder)
    shutil.copytree(write_speech_artifact(new_scratch("other"), seed=3), folder)
    return model


def test_its_own_files_are_given(model: Model, settings: Settings) -> None:
    folder: Path = settings.data_dir / "blobs" / model.blob
    assert fetch_model(model) == fetch_located(locate(model.id)) == model_directory(model.id)[1] == folder


def test_anothers_are_not(exchanged: Model) -> None:
    for fetch in (lambda: fetch_model(exchanged), lambda: fetch_located(locate(exchanged.id)), lambda: model_directory(exchanged.id)):
        with pytest.raises(DependencyError) as caught:
            fetch()
        assert caught.value.code == "blob_damaged"


def test_a_description_that_can_not_be_read_is_damage(model: Model, settings: Settings) -> None:
    (settings.data_dir / "blobs" / model.blob / "model.json").write_text("{")
    with pytest.raises(DependencyError) as caught:
        fetch_model(model)
    assert caught.value.code == "blob_damaged"


def test_no_job_builds_on_them(exchanged: Model) -> None:
    job_id = str(create_job(JobSpec(dataset=add_dataset(blob="datasets/a"), base_model=exchanged.id))["id"])
    supervise(job_id)
    job = row(job_id)
    assert (job.state, job.failures, job.token) == ("queued", 1, 1)  # the storage may be put right before the third start
    assert "another model's files" in events(job_id)[-1].message


def test_nor_are_they_judged(exchanged: Model) -> None:
    found, skipped = candidate_orders(TransferabilitySpec(dataset=add_dataset(), candidates=(exchanged.id,)))
    assert (found, [(one.candidate, one.code) for one in skipped]) == ((), [(exchanged.id, "blob_damaged")])
