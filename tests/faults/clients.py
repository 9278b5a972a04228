"""Clients that go on asking a service, whatever is done to it."""

import threading
from typing import Any, Self

import httpx2

from tests.conftest import tone, wav_bytes
from tests.faults.invariants import Answers
from tests.service import Service


class Clients:
    """Three that go on asking, whatever is answered: for predictions, for the list of jobs, and for jobs, which are noted where taken."""

    def __init__(self, service: Service, answers: Answers, dataset: str) -> None:
        """They begin with the block and end with it."""
        self.taken: list[str] = []
        self._service, self._answers = service, answers
        self._job = {"dataset": dataset, "transfer": {"mode": "none"}, "metadata": {"steps": "10", "pace": "0.05"}}
        self._over = threading.Event()
        asked = (
            ("POST", "/predict", 0.05, {"content": wav_bytes(tone(440, 0.5)), "headers": {"Content-Type": "audio/wav"}}),
            ("GET", "/jobs", 0.05, {}),
            ("POST", "/jobs", 0.5, {"json": self._job}),
        )
        self._threads = [threading.Thread(target=self._repeat, args=item) for item in asked]
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _repeat(self, method: str, path: str, pause: float, request: dict[str, Any]) -> None:
        with httpx2.Client(base_url=self._service.url, timeout=30) as client:
            while not self._over.wait(pause):
                try:
                    answer = client.request(method, path, **request)
                except httpx2.TransportError as error:  # the process that answers does not go away
                    self.errors.append(f"{method} {path}: {type(error).__name__} {error}")
                    continue
                self._answers.take(f"{method} {path}", answer.status_code, answer.headers, answer.content)
                if answer.status_code == 202:
                    self.taken.append(answer.json()["id"])
