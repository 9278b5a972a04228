"""A real service for tests: `synesthesia serve` as its own process tree on 127.0.0.1, with everything that belongs to it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from app.client import Client, Json

# The lease keeps its minute: a dead owner on this host is known by its free lock, and a busy machine must not lose a live one.
QUICK = {
    "SYNESTHESIA_HEARTBEAT_SECONDS": "0.5",
    "SYNESTHESIA_JANITOR_SECONDS": "0.5",
    "SYNESTHESIA_REPUBLISH_SECONDS": "3",
    "SYNESTHESIA_CHECKPOINT_SECONDS": "0.3",
    "SYNESTHESIA_THREADS": "1",  # tests run side by side, and a fixed number makes runs repeat bit for bit
    "OMP_NUM_THREADS": "1",
}
PARTS = {
    "trainer": ("worker.trainer",),
    "worker": ("worker.celery_app", "--name train"),
    "api": ("app.server",),
    "broker": ("valkey-server",),
}
START_SECONDS = 60.0
T = TypeVar("T")
TERMINAL = ("succeeded", "failed", "cancelled")


class Service:
    """One service on one data directory; it can be killed and started again."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self._environment = {**os.environ, **QUICK, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> "Service":
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "app.cli", "serve", "--port", "0", "--data-dir", str(self.data_dir)]
        with (self.data_dir / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment, start_new_session=True)
        try:
            self.url = wait_until(self._announced, START_SECONDS, self.log)
        except AssertionError:
            if self._process.poll() is None:
                self.kill_tree()  # nobody else could end it
            raise
        return self

    def stop(self) -> int:
        """Ask it to end; return its exit status. Nothing that it started may be left."""
        if self._process is None or self._process.poll() is not None:
            return 0
        family = self.family()
        self._process.terminate()
        code = self._process.wait(60)
        _, alive = psutil.wait_procs(family, timeout=5)
        for process in alive:
            process.kill()
        assert alive == [], f"left behind: {[process.cmdline() for process in alive]}"
        return code

    def kill_tree(self) -> None:
        """kill -9 everything at once."""
        family = self.family()
        for process in family:
            kill(process)
        psutil.wait_procs(family, timeout=10)
        if self._process is not None:
            self._process.wait(10)

    def family(self) -> list[psutil.Process]:
        assert self._process is not None
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]

    def find(self, *words: str) -> list[psutil.Process]:
        """Processes of this service whose command line holds all the words."""
        found = []
        for process in self.family():
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found

    def client(self) -> Client:
        return Client(self.url)

    def log(self) -> str:
        path = self.data_dir / "serve.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def _announced(self) -> str | None:
        from app.serve import Serving

        assert self._process is not None
        assert self._process.poll() is None, f"serve ended with {self._process.poll()}: {self.log()}"
        serving = Serving.read(self.data_dir)
        return serving.url if serving is not None and serving.pid == self._process.pid else None


def kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        pass


def wait_until(probe: Callable[[], T | None], seconds: float, explain: Callable[[], str] = lambda: "") -> T:
    """Return what the probe returns once that is something; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing after {seconds:.0f} s; {explain()}")


def upload(client: Client, archive: bytes, folder: Path, name: str) -> Json:
    """Upload an archive and wait until it is read; it must come out ready."""
    path = folder / f"{name}.zip"
    path.write_bytes(archive)
    dataset = client.upload_dataset(path, name=name)
    dataset = client.wait_dataset(str(dataset["id"]), poll_seconds=0.1)
    assert dataset["status"] == "ready", dataset
    return dataset


def finished(client: Client, job_id: str, seconds: float = 120.0) -> Json:
    """Return a job once it has ended."""

    def probe() -> Json | None:
        job = client.get(f"/jobs/{job_id}")
        return job if job["status"] in TERMINAL else None

    return wait_until(probe, seconds, lambda: str(client.get(f"/jobs/{job_id}")))


def small(dataset: Json, **fields: Any) -> Json:
    """A job that takes seconds."""
    body: Json = {
        "dataset": dataset["id"],
        "hyperparameters": {"epochs": 4, "batch_size": 16},
        "features": {"n_mels": 32, "hop_ms": 20, "clip_seconds": 0.5, "image_size": 28},
    }
    if not {"transfer", "base_model"} & fields.keys():
        body["transfer"] = {"mode": "none"}  # a race and a first answer are asked for where they are looked at
    for key, value in fields.items():
        body[key] = {**body[key], **value} if isinstance(value, dict) and key in body else value
    return body


def run_job(client: Client, body: Json) -> Json:
    """Start a job and wait for its success."""
    job = finished(client, str(client.post("/jobs", body)["id"]))
    assert job["status"] == "succeeded", job
    return job
