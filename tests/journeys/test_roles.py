"""The same roles as separate processes, as a deployment runs them: a real Redis on TCP, a real Postgres, keys beyond loopback."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.client import Client, ClientError
from tests.conftest import sound_archive
from tests.service import QUICK, run_job, small, upload, wait_until

KEY = "a-key-for-this-test-alone"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as sink:
        started = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment, start_new_session=True)
    family: list[psutil.Process] = []
    try:
        yield started
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(started.pid).children(recursive=True)
        started.terminate()
        try:
            started.wait(40)
        finally:
            for left in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
            started.kill()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--appendonly", "yes", "--save", ""]
    with process(command, tmp_path / "redis.log"):
        wait_until(lambda: _accepts(port), 20)
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def database_url(tmp_path: Path) -> Iterator[str]:
    """A Postgres of this test's own; as root it runs under the package's user, which it insists on."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    binaries = found[-1].parent
    folder = tmp_path / "postgres"
    folder.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent in (tmp_path, *tmp_path.parents[:3]):
            if parent != Path("/") and parent != Path("/tmp"):
                parent.chmod(0o755)
        as_user = [shutil.which("setpriv") or "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    port = free_port()
    subprocess.run(
        [*as_user, str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "synesthesia", "-A", "trust", "--no-sync"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    command = [*as_user, str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
    with process(command, tmp_path / "postgres.log"):
        wait_until(lambda: _accepts(port), 30)
        url = f"postgresql+psycopg://synesthesia@127.0.0.1:{port}/postgres"
        wait_until(lambda: _takes_queries(url), 30)
        yield url


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


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _takes_queries(url: str) -> bool:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return bool(connection.execute(text("SELECT 1")).scalar())
    except OperationalError:
        return False
    finally:
        engine.dispose()
