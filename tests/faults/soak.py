"""`python -m tests.faults.soak --minutes 30 --seed 1`: load on everything and a random fault every half minute; what must hold is checked.

Predictions five times a second, jobs and uploads now and then, by clients that try again. Trainings are fake children that take seconds, so
that there are many of them; everything else is real. Exit status 1 where an invariant does not hold, or memory grows without end.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx2

from benchmarks.machine import machine
from tests.conftest import sound_archive, tone, wav_bytes
from tests.faults.chaos import FAKES, Chaos, import_model, patiently, post_job, state_counts, upload_tones
from tests.faults.growth import Growth
from tests.faults.invariants import Answers, Footprint, check_data, half_made, tree_of
from tests.service import PARTS, Service, wait_until
from worker.states import TERMINAL

_FAULT_SECONDS = 30.0
_LINE_SECONDS = 10.0
_PREDICT_SECONDS = 0.2
_JOB_SECONDS = 6.0
_UPLOAD_SECONDS = 20.0
_DELETE_SECONDS = 45.0
_STRAY_SECONDS = 60  # an hour otherwise: what a kill has left half made must go within the run
_CALM_SECONDS = 240.0  # in which all jobs must have ended, and all remains be removed, once the last fault is over
_MOST_GROWTH = 2**20  # bytes of resident memory a minute
_TOLD_ERRORS = 20
_WRONG = (AssertionError, OSError, ValueError, httpx2.HTTPError)


@dataclass
class Soak:
    """One run: what was accepted, what was done to it, how much memory it took."""

    service: Service
    answers: Answers
    seed: int
    accepted: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    """those that may be deleted"""
    growth: dict[str, Growth] = field(default_factory=lambda: {name: Growth() for name in ("api", "worker", "serve")})
    faults: list[str] = field(default_factory=list)
    predictions: int = 0
    broken: list[str] = field(default_factory=list)
    """what went wrong, as sentences"""
    calm_after: float | None = None
    """seconds from the last fault until everything had ended; None: it never had"""
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, minutes: float) -> None:
        """Start the clients, do the faults, wait for calm. What goes wrong stands in `broken`."""
        archive = sound_archive(words=2, speakers=2, takes=1)
        dataset = upload_tones(self.service, self.answers, archive)
        self.accepted.append(dataset)
        works: dict[Callable[[], None], float] = {
            self._predict: _PREDICT_SECONDS,
            lambda: self.accepted.append(post_job(self.service, self.answers, dataset, steps=20, pace=0.1)): _JOB_SECONDS,
            lambda: self._upload(archive): _UPLOAD_SECONDS,
            self._delete: _DELETE_SECONDS,
        }
        threads = [threading.Thread(target=self._repeat, args=item, daemon=True) for item in works.items()]
        for thread in threads:
            thread.start()
        self.judge("faults", lambda: self._strike(minutes * 60))
        self.over.set()
        for thread in threads:
            thread.join(240)
        self.judge("clients", lambda: _assert(not any(thread.is_alive() for thread in threads), "a client never got its answer"))
        self.judge("calm", self._calm_down)

    def judge(self, what: str, check: Callable[[], None]) -> None:
        """Do something, and write down where it went wrong; the run goes on, so that all that is wrong is told."""
        try:
            check()
        except _WRONG as error:
            self.broken.append(f"{what}: {type(error).__name__}: {error}"[:1000])
            _say(f"BROKEN {self.broken[-1]}")

    def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        """Do it again and again, as often as that: what took longer is not waited for twice."""
        due = time.monotonic()
        while not self.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + seconds, time.monotonic() - seconds)
            self.judge("a client", work)

    def _predict(self) -> None:
        sound = wav_bytes(tone(440 + self.predictions % 100, 0.5))
        answer = patiently(self.service.url, self.answers, "POST", "/predict", content=sound, headers={"Content-Type": "audio/wav"})
        _assert(answer.status_code == 200, answer.text)
        self.predictions += 1

    def _upload(self, archive: bytes) -> None:
        made = upload_tones(self.service, self.answers, archive)
        self.accepted.append(made)
        self.datasets.append(made)

    def _delete(self) -> None:
        if self.datasets:
            answer = patiently(self.service.url, self.answers, "DELETE", f"/datasets/{self.datasets.pop(0)}")
            _assert(answer.status_code in (200, 204, 410), answer.text)  # 410: an answer was lost with its process, and asked for again

    def _strike(self, seconds: float) -> None:
        chaos, began = Chaos(self.service, self.seed), time.monotonic()
        self.faults = chaos.done
        next_fault, next_line = _FAULT_SECONDS / 2, 0.0
        while (passed := time.monotonic() - began) < seconds:
            if passed >= next_fault:
                next_fault += _FAULT_SECONDS
                _say(f"{passed:6.0f} s  {chaos.strike()}")
            if passed >= next_line:
                next_line += _LINE_SECONDS
                self._tell(passed)
            time.sleep(0.2)

    def _tell(self, passed: float) -> None:
        parts = {"api": self.service.find(*PARTS["api"]), "worker": self.service.find(*PARTS["worker"]), "serve": self.service.family()[:1]}
        for name, processes in parts.items():
            self.growth[name].weigh(processes)
        counts = f"{self.predictions} predictions, {len(self.accepted)} accepted, {len(self.broken)} broken"
        _say(f"{passed:6.0f} s  {counts}, API {Footprint.of(parts['api']).rss >> 20} MiB")

    def _calm_down(self) -> None:
        ended = time.monotonic()
        wait_until(self._is_calm, _CALM_SECONDS, lambda: f"{state_counts(self.service, self.answers)} {half_made(self.service.data_dir)}")
        self.calm_after = round(time.monotonic() - ended, 1)

    def _is_calm(self) -> bool:
        counts = state_counts(self.service, self.answers)
        return not any(count for state, count in counts.items() if state not in TERMINAL) and not half_made(self.service.data_dir)

    def check_growth(self) -> None:
        """Assert that no part grows without end."""
        growing = {name: part.a_minute for name, part in self.growth.items() if (part.a_minute or 0.0) >= _MOST_GROWTH}
        _assert(not growing, f"bytes a minute: {growing}")

    def report(self, minutes: float) -> dict[str, object]:
        """Return what is written about the run."""
        return {
            "machine": machine(["celery", "sqlalchemy"]),
            "minutes": minutes,
            "seed": self.seed,
            "passed": not self.broken,
            "broken": self.broken[:_TOLD_ERRORS],
            "faults": self.faults,
            "predictions": self.predictions,
            "accepted": len(self.accepted),
            "answers": {f"{what} {status}": count for (what, status), count in sorted(self.answers.counts.items())},
            "calm_after_seconds": self.calm_after,
            "memory_slope_mib_a_minute": {
                name: None if part.a_minute is None else round(part.a_minute / 2**20, 3) for name, part in self.growth.items()
            },
        }


def soak(minutes: float, seed: int, report: Path | None = None) -> int:
    """Run one and return the exit status."""
    _say(f"seed {seed}, {minutes:g} minutes")
    with tempfile.TemporaryDirectory() as folder:
        root, answers = Path(folder), Answers()
        service = Service(root / "service", SYNESTHESIA_STRAY_SECONDS=str(_STRAY_SECONDS), **FAKES).start()
        run = Soak(service, answers, seed)
        try:
            import_model(service, answers, root / "artifact")
            before = tree_of(root, without=service.data_dir)
            run.run(minutes)
            footprint = Footprint.of(service.family())
        finally:
            run.judge("end", lambda: _assert(service.stop() == 0, "the service ended with an error"))
        run.judge("answers", answers.check)
        run.judge("data", lambda: check_data(service.data_dir, accepted=run.accepted, settled=True))
        run.judge("files", lambda: _assert(tree_of(root, without=service.data_dir) == before, "something was written outside"))
        run.judge("memory", run.check_growth)
    found = json.dumps(run.report(minutes) | {"footprint_at_the_end": asdict(footprint)}, indent=2)
    _say(found)
    if report is not None:
        report.write_text(found + "\n")
    return int(bool(run.broken))


def _assert(holds: bool, words: str) -> None:  # as an expression
    assert holds, words


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program's output


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="by default by the clock; the one that was used is printed")
    parser.add_argument("--report", type=Path, default=None, help="where to write what was seen, as JSON, beside printing it")
    asked = parser.parse_args(arguments)
    return soak(asked.minutes, time.time_ns() % 1_000_000 if asked.seed is None else asked.seed, asked.report)


if __name__ == "__main__":
    sys.exit(main())
