"""What the command line hands to the processes that it starts. worker/settings.py alone reads settings; here they are written."""

import os
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8000"  # where a service listens that was told nothing else
_SERVICE_URLS = ("DATABASE_URL", "REDIS_URL", "BLOB_URL")
_PREFIX = "SYNESTHESIA_"


def export_options(
    *, host: str | None = None, port: int | None = None, data_dir: Path | None = None, api_processes: int | None = None
) -> None:
    """Turn options into settings of this process and of those it starts. Call before the settings are read."""
    given = {"HOST": host, "PORT": port, "DATA_DIR": data_dir.absolute() if data_dir else None, "API_PROCESSES": api_processes}
    os.environ.update({_PREFIX + name: str(value) for name, value in given.items() if value is not None})


def environment_without_settings() -> dict[str, str]:
    """Return this process's environment less every setting, for a service that is to stand alone."""
    return {name: value for name, value in os.environ.items() if name not in _SERVICE_URLS and not name.startswith(_PREFIX)}
