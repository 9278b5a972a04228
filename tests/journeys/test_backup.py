"""A backup that is made while the service works, restored elsewhere: the other service says of a sound what the first one said."""

import io
import json
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.client import Client, Json
from tests.app.conftest import write_speech_artifact
from tests.conftest import sound_archive, tone, wav_bytes
from tests.faults.invariants import check_data
from tests.service import Service, finished, small, upload, wait_until


def synesthesia(*words: str, data_dir: Path) -> Json:
    """Run a command that answers in JSON."""
    command = [sys.executable, "-m", "app.cli", *words, "--data-dir", str(data_dir), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(done.stdout)
    return found


def work(client: Client, dataset: Json, archive: Path, stop: threading.Event, made: list[str]) -> None:
    """Upload and train until told to stop."""
    while not stop.is_set():
        made.append(str(client.upload_dataset(archive, name="more")["id"]))
        if len(made) < 6:  # they run to their end in the restored service
            made.append(str(client.post("/jobs", small(dataset, hyperparameters={"epochs": 1}))["id"]))
        stop.wait(0.2)


def answer(client: Client, sound: Path) -> dict[str, Any]:
    """What the default model says of a sound."""
    found = client.predict(sound)
    return {name: found[name] for name in ("model", "label", "probability", "top_k")}


def imported(service: Service, folder: Path) -> str:
    """Give the service a model of random weights as the default one; return its id."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(write_speech_artifact(folder).iterdir()):
            tar.add(path, path.name)
    made = httpx2.post(f"{service.url}/models", content=archive.getvalue(), headers={"Content-Type": "application/x-tar"}, timeout=60)
    model = str(made.json()["id"])
    assert httpx2.put(f"{service.url}/aliases/default", json={"model": model}, timeout=60).status_code == 200
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved", "saved.tar"])
def test_a_restored_service_answers_the_same(tmp_path: Path, name: str) -> None:
    sound, archive, target = tmp_path / "sound.wav", tmp_path / "more.zip", tmp_path / name
    sound.write_bytes(wav_bytes(tone(600.0)))
    archive.write_bytes(sound_archive(words=2, speakers=2, takes=1))
    (tmp_path / "artifact").mkdir()
    running = Service(tmp_path / "first").start()
    try:
        with running.client() as client:
            model = imported(running, tmp_path / "artifact")
            dataset = upload(client, sound_archive(), tmp_path, "tones")
            said = answer(client, sound)
            saved = backed_up_under_load(running, client, dataset, archive, target)
    finally:
        running.stop()
    assert saved["lost"] == {}
    restored = synesthesia("restore", str(target), data_dir=tmp_path / "second")
    assert (restored["blobs"], restored["lost"]) == (saved["blobs"], [])
    again = Service(tmp_path / "second", SYNESTHESIA_LEASE_SECONDS="5").start()
    try:
        with again.client() as client:
            assert answer(client, sound) == said
            jobs = [str(row["id"]) for row in client.pages("/jobs")]
            assert jobs
            assert {finished(client, job, 300.0)["status"] for job in jobs} == {"succeeded"}
    finally:
        again.stop()
    check_data(tmp_path / "second", accepted=[model, dataset["id"]], settled=True)


def backed_up_under_load(running: Service, client: Client, dataset: Json, archive: Path, target: Path) -> Json:
    """Make a backup while archives are uploaded and jobs queued and run."""
    stop, made = threading.Event(), list[str]()
    thread = threading.Thread(target=work, args=(client, dataset, archive, stop, made))
    thread.start()
    try:
        wait_until(lambda: len(made) >= 4 or None, 60, running.log)
        return synesthesia("backup", str(target), data_dir=running.data_dir)
    finally:
        stop.set()
        thread.join()
