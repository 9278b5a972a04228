"""Brings the database to the newest schema. Safe to call from every process at once, and again and again."""

from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from worker.database import get_engine
from worker.processes import HostLock
from worker.settings import get_settings
from worker.turns import MIGRATION, take_turn

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).with_name("migrations")
_WAIT_SECONDS = 120.0
_log = structlog.get_logger(__name__)


def upgrade() -> None:
    """Run what is missing of worker/migrations, oldest first. Raises UnavailableError when another process migrates for minutes.

    A database that a newer version has brought further is left as it is: migrations add, so that workers of the version before can
    go on beside the new one until they are replaced.
    """
    settings = get_settings()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    current, newest = current_revision(), newest_revision()
    if current is not None and current > newest:
        _log.warning("database_is_of_a_newer_version", schema=current, known=newest)
    if current is not None and current >= newest:
        return
    from alembic import command  # noqa: PLC0415 - a fifth of a second that a start with nothing to migrate can do without

    with HostLock(settings.lock_dir, "migrate").held(_WAIT_SECONDS), get_engine().connect() as connection:
        take_turn(connection, MIGRATION)  # of all hosts, where there can be several
        command.upgrade(alembic_config(connection), "head")
        connection.commit()


def newest_revision() -> str:
    """Return the revision that this version of the code works with: the files are numbered in the order of their migrations."""
    return max(path.name for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def current_revision() -> str | None:
    """Return the revision of the database, None where it has none yet."""
    try:
        with get_engine().connect() as connection:
            found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return found
    except (OperationalError, ProgrammingError):  # no such table; what else is wrong shows when the migrations are run
        return None


def alembic_config(connection: Connection) -> "Config":
    """Return Alembic's configuration for an open connection."""
    from alembic.config import Config  # noqa: PLC0415 - see `upgrade`

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
