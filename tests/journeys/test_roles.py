"""The same roles as separate processes, as a deployment runs them: a real Redis on TCP, a real Postgres, keys beyond loopback."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.client import Client, ClientError
from tests.conftest import sound_archive
from tests.servers import free_port, postgres, process, redis
from tests.service import QUICK, run_job, small, upload, wait_until

KEY = "a-key-for-this-test-alone"


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with redis(tmp_path) as url:
        yield url


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    with postgres(tmp_path / "postgres") as server:
        yield server.url


def test_api_and_worker_apart_with_redis_and_postgres(tmp_path: Path, redis_url: str, database_url: str) -> None:
    port = free_port()
    environment = {
        **os.environ, **QUICK, "REDIS_URL": redis_url, "DATABASE_URL": database_url, "SYNESTHESIA_DATA_DIR": str(tmp_path / "data"),
        "BLOB_URL": f"file://{tmp_path / 'blobs'}", "SYNESTHESIA_API_KEY": KEY, "SYNESTHESIA_AUTH": "keys",
    }  # fmt: skip
    program = [sys.executable, "-m", "app.cli"]
    with (
        process([*program, "api", "--port", str(port)], tmp_path / "api.log", environment),
        process([*program, "worker"], tmp_path / "worker.log", environment),
        Client(f"http://127.0.0.1:{port}", KEY) as client,
    ):
        readiness = wait_until(lambda: _ready(client), 40, lambda: (tmp_path / "api.log").read_text()[-2000:])
        assert readiness["checks"]["broker"]["status"] == "ok"
        with Client(client.url) as stranger, pytest.raises(ClientError) as error:
            stranger.get("/datasets")
        assert "401" in str(getattr(error.value, "status", ""))
        dataset = upload(client, sound_archive(), tmp_path, "tones")
        job = run_job(client, small(dataset, alias="tones", hyperparameters={"epochs": 2}))
        assert client.get("/models/tones")["id"] == job["model"]


def _ready(client: Client) -> dict[str, dict[str, dict[str, str]]] | None:
    try:
        return client.get("/readyz")
    except ClientError:
        return None
