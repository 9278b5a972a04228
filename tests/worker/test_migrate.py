"""Migrations bring what the tables in worker/database.py say, once, however many processes ask."""

import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from tests.rig import add_job, state
from worker.database import Base, get_engine
from worker.migrate import alembic_config, current_revision, newest_revision, upgrade
from worker.settings import Settings


def test_the_migrated_schema_is_that_of_the_tables(settings: Settings) -> None:
    with get_engine().connect() as connection:
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata) == []


def test_a_start_with_nothing_to_migrate_leaves_alembic_alone(settings: Settings) -> None:
    with get_engine().connect() as connection:
        head = ScriptDirectory.from_config(alembic_config(connection)).get_current_head()
    assert newest_revision() == current_revision() == head
    code = "import sys; from worker.migrate import upgrade; upgrade(); assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env={"SYNESTHESIA_DATA_DIR": str(settings.data_dir)}, check=True)


def test_again_changes_nothing(settings: Settings) -> None:
    job_id = add_job()
    upgrade()
    assert state(job_id) == "queued"


def test_processes_at_once(tmp_path: Path) -> None:
    code = "from worker.migrate import upgrade; upgrade()"
    environment = {"PATH": "", "SYNESTHESIA_DATA_DIR": str(tmp_path / "new data % ü")}
    started = [subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) for _ in range(3)]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_sqlite_is_set_up_to_lose_nothing(settings: Settings) -> None:
    with get_engine().connect() as connection:
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
