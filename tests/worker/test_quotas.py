"""The last place of a quota, which many want at once; on a real Postgres too, where transactions run side by side."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from models.config import JobSpec
from models.errors import SynesthesiaError
from models.formula.generator import FormulaConfig
from tests.conftest import forget
from tests.rig import add_dataset
from tests.servers import postgres
from worker.database import get_engine
from worker.generated import generate_dataset
from worker.jobs import create_job
from worker.migrate import upgrade
from worker.owners import View, seen_by

AT_ONCE = 12
LIMITS = {"max_owner_jobs": 3, "max_owner_datasets": 2, "max_queued_jobs": 8}
PICTURES = FormulaConfig(generator="textures", labels=2, items_per_label=2, image_size=16)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A migrated database of each kind, with small quotas."""
    for name, value in LIMITS.items():
        monkeypatch.setenv(f"SYNESTHESIA_{name.upper()}", str(value))
    monkeypatch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if request.param == "sqlite":
        yield from _migrated()
        return
    with postgres(tmp_path / "postgres") as server:
        monkeypatch.setenv("DATABASE_URL", server.url)
        yield from _migrated()


def _migrated() -> Iterator[str]:
    forget()
    upgrade()
    yield get_engine().dialect.name
    forget()


def at_once(owners: list[str], make: Callable[[str], object]) -> Counter[str]:
    """Let each owner make something at the same moment; return how often it went well ("made") and what was said otherwise."""
    ready = threading.Barrier(len(owners))

    def one(owner: str) -> str:
        with seen_by(View(owner, sees_all=False)):
            ready.wait(10)
            try:
                make(owner)
            except SynesthesiaError as error:
                return error.code
        return "made"

    with ThreadPoolExecutor(len(owners)) as pool:
        return Counter(pool.map(one, owners))


def test_a_place_is_had_once(database: str) -> None:
    datasets = {}
    for owner in ("ann", *(f"other{number}" for number in range(AT_ONCE))):
        with seen_by(View(owner, sees_all=False)):
            datasets[owner] = add_dataset()

    def post(owner: str) -> None:
        create_job(JobSpec(dataset=datasets[owner]))

    assert at_once(["ann"] * AT_ONCE, post) == {"made": 3, "queue_quota": AT_ONCE - 3}
    assert at_once(["eve"] * AT_ONCE, lambda _: generate_dataset(PICTURES)) == {"made": 2, "dataset_quota": AT_ONCE - 2}
    assert at_once([f"other{number}" for number in range(AT_ONCE)], post) == {"made": 3, "queue_full": AT_ONCE - 3}
    with get_engine().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs WHERE state = 'queued'")).scalar() == 8
