"""Brings the database to the newest schema. Safe to call from every process at once, and again and again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from worker.database import get_engine
from worker.processes import HostLock
from worker.settings import get_settings

_MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK_NUMBER = 0x53594E45  # "SYNE": of Postgres' advisory lock, held while one process migrates
_WAIT_SECONDS = 120.0


def upgrade() -> None:
    """Run what is missing of worker/migrations, oldest first. Raises UnavailableError when another process migrates for minutes."""
    settings = get_settings()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with HostLock(settings.lock_dir, "migrate").held(_WAIT_SECONDS), get_engine().connect() as connection, _locked(connection):
        command.upgrade(alembic_config(connection), "head")
        connection.commit()


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextlib.contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """Keep other hosts out, where there can be some: on Postgres. The lock ends with the transaction, however that ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
    yield
