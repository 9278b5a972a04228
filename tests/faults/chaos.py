"""What is done to a running service, by a seed, and how to talk to one that dies all the time."""

import contextlib
import io
import os
import random
import shutil
import signal
import sqlite3
import tarfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil

from tests.app.conftest import write_speech_artifact
from tests.faults.invariants import Answers
from tests.rig import ROOT
from tests.service import PARTS, Service
from worker.idempotency import TAKEOVER_SECONDS

FAKES = {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "faults" / "fakes"), str(ROOT)])}
"""environment of a service whose trainings are fake children: tests/faults/fake_child.py"""
_PAUSE_SECONDS = (0.5, 4.0)  # of a stopped process
_LOCK_SECONDS = (0.5, 6.0)  # less than a writer waits
_PATIENCE_SECONDS = TAKEOVER_SECONDS + 30  # a request whose process died holds its key for so long
_TRAINERS = (PARTS["trainer"], ("fake_child",))


class Chaos:
    """One random fault after another; the same seed chooses the same ones."""

    def __init__(self, service: Service, seed: int) -> None:
        """`seed` is worth printing."""
        self.chance = random.Random(seed)
        self.done: list[str] = []
        self._service = service

    def kill(self) -> str:
        """kill -9 one part that lives, and say which."""
        name, victims = self._victims()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        return self._note(f"kill {name}" if victims else f"no {name} to kill")

    def stop_a_while(self) -> str:
        """SIGSTOP one part, and SIGCONT some seconds later."""
        name, victims = self._victims()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.suspend()
        threading.Timer(self.chance.uniform(*_PAUSE_SECONDS), _resume, (victims,)).start()
        return self._note(f"stop {name}")

    def empty_broker(self) -> str:
        """Kill the broker and take its log away: it comes back empty."""
        for victim in self._service.find(*PARTS["broker"]):
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        shutil.rmtree(self._service.data_dir / "broker" / "appendonlydir", ignore_errors=True)
        return self._note("empty broker")

    def lock_database(self) -> str:
        """Hold the writer's place of the database for some seconds."""
        seconds = self.chance.uniform(*_LOCK_SECONDS)
        threading.Thread(target=_hold, args=(self._service.data_dir / "synesthesia.db", seconds), daemon=True).start()
        return self._note(f"lock database for {seconds:.1f} s")

    def strike(self) -> str:
        """Do one of all these."""
        faults: list[Callable[[], str]] = [self.kill, self.kill, self.stop_a_while, self.empty_broker, self.lock_database]
        return self.chance.choice(faults)()

    def _victims(self) -> tuple[str, list[psutil.Process]]:
        name = self.chance.choice(sorted(PARTS))
        words = _TRAINERS if name == "trainer" else (PARTS[name],)
        return name, [process for found in words for process in self._service.find(*found)]

    def _note(self, what: str) -> str:
        self.done.append(what)
        return what


def _hold(path: Path, seconds: float) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


def _resume(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def patiently(url: str, answers: Answers, method: str, path: str, *, seconds: float = _PATIENCE_SECONDS, **request: Any) -> httpx2.Response:
    """Ask until there is an answer that is no 503; a POST has one key for all its tries, so that it has one effect."""
    headers = {"Idempotency-Key": uuid.uuid4().hex, **request.pop("headers", {})} if method == "POST" else request.pop("headers", {})
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx2.TransportError):
            answer = httpx2.request(method, f"{url}{path}", headers=headers, timeout=10, **request)
            answers.take(f"{method} {path.partition('?')[0].split('/')[1]}", answer.status_code, answer.headers, answer.content)
            # 409: the first try is still being answered, or died while it was.
            if answer.status_code not in (503, 409):
                return answer
        assert time.monotonic() < deadline, f"no answer to {method} {path} in {seconds:.0f} s"
        time.sleep(0.2)


def upload_tones(service: Service, answers: Answers, archive: bytes) -> str:
    """Upload an archive and wait until it has been read; return the dataset's id."""
    made = patiently(service.url, answers, "POST", "/datasets?name=tones", content=archive, **_typed({}, "application/zip"))
    assert made.status_code == 202, made.text
    dataset_id = str(made.json()["id"])
    deadline = time.monotonic() + 120
    while (found := patiently(service.url, answers, "GET", f"/datasets/{dataset_id}").json())["status"] == "processing":
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert found["status"] == "ready", found
    return dataset_id


def post_job(service: Service, answers: Answers, dataset: str, **plan: object) -> str:
    """Queue a job whose fake child does what `plan` says; return its id."""
    body = {"dataset": dataset, "transfer": {"mode": "none"}, "metadata": {name: str(value) for name, value in plan.items()}}
    made = patiently(service.url, answers, "POST", "/jobs", json=body)
    assert made.status_code == 202, made.text
    return str(made.json()["id"])


def state_counts(service: Service, answers: Answers) -> dict[str, int]:
    """Return jobs per state, from the metrics that every operator sees."""
    text = patiently(service.url, answers, "GET", "/metrics").text
    rows = [line.split() for line in text.splitlines() if line.startswith("synesthesia_jobs{")]
    return {name.partition('"')[2].rstrip('"}'): int(float(count)) for name, count in rows}


def import_model(service: Service, answers: Answers, folder: Path, **request: Any) -> None:
    """Make a speech model with random weights in `folder`, upload it, and let the default name point at it."""
    folder.mkdir()
    with io.BytesIO() as sink:
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for path in sorted(write_speech_artifact(folder).iterdir()):
                tar.add(path, path.name)
        made = patiently(service.url, answers, "POST", "/models", content=sink.getvalue(), **_typed(request, "application/x-tar"))
    assert made.status_code == 201, made.text
    named = patiently(service.url, answers, "PUT", "/aliases/default", json={"model": made.json()["id"]}, **request)
    assert named.status_code == 200, named.text


def _typed(request: dict[str, Any], media_type: str) -> dict[str, Any]:
    return {**request, "headers": {**request.get("headers", {}), "Content-Type": media_type}}
