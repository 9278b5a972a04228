"""One service for the journeys that leave it whole; those that break it start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.client import Client, Json
from tests.conftest import picture_archive, sound_archive
from tests.faults.invariants import check_data
from tests.service import Service, run_job, small, upload


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service"), SYNESTHESIA_WEBHOOK_SECRET="what webhooks are signed with").start()
    try:
        yield running
    finally:
        assert running.stop() == 0
        check_data(running.data_dir)


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[Client]:
    with service.client() as connected:
        yield connected


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@pytest.fixture(scope="session")
def pictures(client: Client, folder: Path) -> Json:
    return upload(client, picture_archive(), folder, "stripes")


@pytest.fixture(scope="session")
def sounds(client: Client, folder: Path) -> Json:
    return upload(client, sound_archive(), folder, "tones")


@pytest.fixture(scope="session")
def source(client: Client, pictures: Json) -> Json:
    """The finished pretrain that the transfers build on."""
    return run_job(client, small(pictures, name="stripes"))


@pytest.fixture(scope="session")
def transferred(client: Client, sounds: Json, source: Json) -> Json:
    """A finished full transfer from pictures to sounds."""
    return run_job(
        client,
        small(
            sounds,
            base_model=source["model"],
            transfer={"mode": "full"},
            alias="tones",
            name="tones",
            hyperparameters={"epochs": 80, "early_stopping_patience": None},
            augmentation={"warp": False, "echo": False},  # these words differ by what a warp moves
        ),
    )
