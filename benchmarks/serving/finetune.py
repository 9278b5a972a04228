"""A fine-tune that runs while predictions are measured: a job of ours, or the script that a peer's user would start."""

import contextlib
import io
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from prepare import HERE, clip, peers_python
from servers import Running, environment, url_of

from app.client import Client, Json

_WORDS, _SPEAKERS = 4, 12
_START_SECONDS = 120.0
_LONG = 900  # seconds; the job is cancelled long before


@contextlib.contextmanager
def training(one: Running, work: Path) -> Iterator[None]:
    """Keep a job of our service training for the block."""
    archive = work / "sounds.zip"
    archive.write_bytes(_archive())
    with Client(url_of(one)) as client:
        dataset = client.wait_dataset(str(client.upload_dataset(archive, name="sounds")["id"]))
        hyperparameters = {"epochs": 10000, "max_seconds": _LONG, "early_stopping_patience": None}
        body = {"dataset": dataset["id"], "base_model": "bundled", "transfer": {"mode": "full"}, "hyperparameters": hyperparameters}
        job = str(client.post("/jobs", body)["id"])
        try:
            first = _wait_for_steps(client, job)
            yield
            after = client.get(f"/jobs/{job}")
            if after["status"] != "running" or _position(after) <= first:
                raise SystemExit(f"the fine-tune did not go on beside the predictions: {after['status']}, {after['progress']}")
        finally:
            client.post(f"/jobs/{job}/cancel")


def _wait_for_steps(client: Client, job: str) -> tuple[int, int]:
    """Return how far the job is once it trains."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        found = client.get(f"/jobs/{job}")
        if found["status"] not in ("queued", "running"):
            raise SystemExit(f"the fine-tune beside the predictions ended: {found['status']} {found['error']}")
        if found["status"] == "running" and _position(found) > (0, 0):
            return _position(found)
        time.sleep(0.2)
    raise SystemExit("the fine-tune beside the predictions did not begin")


def _position(job: Json) -> tuple[int, int]:
    """Return a job's epoch and step; steps may be counted anew in each epoch."""
    progress = job["progress"]
    return progress["epoch"] or 0, progress["step"] or 0


@contextlib.contextmanager
def peer_training(work: Path) -> Iterator[None]:
    """Keep a training script of the peers' environment running for the block, as its user would start it: nothing is told to yield."""
    script = [peers_python(work), HERE / "peers" / "train.py", "--artifact", work / "artifact"]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=sys.stderr, env=environment(work, "training"))
    try:
        assert process.stdout is not None, "a pipe was asked for"
        process.stdout.readline()  # its first step is done
        yield
    finally:
        process.kill()
        process.wait()


def _archive() -> bytes:
    sink = io.BytesIO()
    rows = ["file_name,label,speaker"]
    with zipfile.ZipFile(sink, "w") as archive:
        for word in range(_WORDS):
            for speaker in range(_SPEAKERS):
                name = f"s{speaker}/w{word}.wav"
                archive.writestr(name, clip(100 * word + speaker))
                rows.append(f"{name},word{word},speaker{speaker}")
        archive.writestr("metadata.csv", "\n".join(rows))
    return sink.getvalue()
