"""`python -m tests.faults.soak --minutes 30 --seed 1`: load on everything and a random fault every half minute; what must hold is checked.

Predictions five times a second, jobs and uploads now and then, by clients that try again. Trainings are fake children that take seconds, so
that there are many of them; everything else is real. Exit status 1 where an invariant does not hold, or memory grows without end.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx2
import numpy as np
import psutil

from benchmarks.machine import machine
from tests.conftest import sound_archive, tone, wav_bytes
from tests.faults.chaos import FAKES, Chaos, import_model, patiently, post_job, state_counts, upload_tones
from tests.faults.invariants import Answers, Footprint, check_data, tree_of
from tests.service import PARTS, Service, wait_until

_FAULT_SECONDS = 30.0
_LINE_SECONDS = 10.0
_PREDICT_SECONDS = 0.2
_JOB_SECONDS = 6.0
_UPLOAD_SECONDS = 20.0
_WARM_SECONDS = 60.0
_CALM_SECONDS = 180.0  # in which all jobs must have ended once the last fault is over
_MOST_GROWTH = 2**20  # bytes of resident memory a minute; only said of a soak of ten minutes or more: a start takes some by itself
_JUDGED_MINUTES = 10.0


@dataclass
class Soak:
    """One run: what was accepted, what was done to it, how much memory it took."""

    service: Service
    answers: Answers
    seed: int
    accepted: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the start, resident bytes of the API process), not in its first minute, in which it fills its caches"""
    predictions: int = 0
    errors: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, minutes: float) -> dict[str, object]:
        """Start the clients, do the faults, wait for calm, and return the report. Raises AssertionError."""
        archive = sound_archive(words=2, speakers=2, takes=1)
        dataset = upload_tones(self.service, self.answers, archive)
        self.accepted.append(dataset)
        works: dict[Callable[[], None], float] = {
            self._predict: _PREDICT_SECONDS,
            lambda: self.accepted.append(post_job(self.service, self.answers, dataset, steps=20, pace=0.1)): _JOB_SECONDS,
            lambda: self.accepted.append(upload_tones(self.service, self.answers, archive)): _UPLOAD_SECONDS,
        }
        threads = [threading.Thread(target=self._repeat, args=item, daemon=True) for item in works.items()]
        for thread in threads:
            thread.start()
        faults = self._faults(minutes * 60)
        self.over.set()
        for thread in threads:
            thread.join(120)
        ended = time.monotonic()
        wait_until(self._calm, _CALM_SECONDS, lambda: str(state_counts(self.service, self.answers)))
        return self._report(minutes, faults, time.monotonic() - ended)

    def _predict(self) -> None:
        sound = wav_bytes(tone(440 + self.predictions % 100, 0.5))
        answer = patiently(self.service.url, self.answers, "POST", "/predict", content=sound, headers={"Content-Type": "audio/wav"})
        assert answer.status_code == 200, answer.text
        self.predictions += 1

    def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        """Do it again and again; what goes wrong ends the soak at its end."""
        try:
            while not self.over.wait(seconds):
                work()
        except (AssertionError, OSError, ValueError, httpx2.HTTPError) as error:
            self.errors.append(f"{type(error).__name__}: {error}"[:500])

    def _faults(self, seconds: float) -> list[str]:
        chaos, began = Chaos(self.service, self.seed), time.monotonic()
        next_fault = _FAULT_SECONDS / 2
        next_line = 0.0
        while (passed := time.monotonic() - began) < seconds:
            if passed >= next_fault:
                next_fault += _FAULT_SECONDS
                _say(f"{passed:6.0f} s  {chaos.strike()}")
            if passed >= next_line:
                next_line += _LINE_SECONDS
                self._weigh(passed)
                counts = f"{self.predictions} predictions, {len(self.accepted)} accepted, {len(self.errors)} errors"
                _say(f"{passed:6.0f} s  {counts}, {Footprint.of(self.service.find(*PARTS['api'])).rss >> 20} MiB")
            time.sleep(0.2)
        return chaos.done

    def _weigh(self, passed: float) -> None:
        for process in self.service.find(*PARTS["api"]):
            with contextlib.suppress(psutil.NoSuchProcess):
                if time.time() - process.create_time() > _WARM_SECONDS:
                    self.memory.append((passed, process.memory_info().rss))

    def _calm(self) -> bool:
        counts = state_counts(self.service, self.answers)
        return not any(count for state, count in counts.items() if state not in ("succeeded", "failed", "cancelled"))

    def _report(self, minutes: float, faults: list[str], calm_after: float) -> dict[str, object]:
        return {
            "machine": machine(["celery", "sqlalchemy"]),
            "minutes": minutes,
            "seed": self.seed,
            "faults": faults,
            "predictions": self.predictions,
            "accepted": len(self.accepted),
            "answers": {f"{what} {status}": count for (what, status), count in sorted(self.answers.counts.items())},
            "calm_after_seconds": round(calm_after, 1),
            "memory_slope_mib_a_minute": round(slope(self.memory) * 60 / 2**20, 2),
            "footprint_at_the_end": asdict(Footprint.of(self.service.family())),
            "errors": self.errors,
        }


def slope(memory: Sequence[tuple[float, int]]) -> float:
    """Return bytes a second, by least squares."""
    return float(np.polyfit(*zip(*memory, strict=True), 1)[0]) if len(memory) > 2 else 0.0


def soak(minutes: float, seed: int, report: Path) -> int:
    """Run one and return the exit status."""
    _say(f"seed {seed}, {minutes} minutes, report in {report}")
    with tempfile.TemporaryDirectory() as folder:
        root, answers = Path(folder), Answers()
        service = Service(root / "service", **FAKES).start()
        try:
            import_model(service, answers, root / "artifact")
            before = tree_of(root, without=service.data_dir)
            run = Soak(service, answers, seed)
            found = run.run(minutes)
        finally:
            service.stop()
        report.write_text(json.dumps(found, indent=2) + "\n")
        _say(json.dumps(found, indent=2))
        answers.check()
        check_data(service.data_dir, accepted=run.accepted, settled=True)
        assert tree_of(root, without=service.data_dir) == before
        growing = minutes >= _JUDGED_MINUTES and slope(run.memory) * 60 > _MOST_GROWTH
    return int(bool(run.errors) or growing)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program's output


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="by default by the clock; the one that was used is printed")
    parser.add_argument("--report", type=Path, default=Path("soak.json"))
    asked = parser.parse_args(arguments)
    return soak(asked.minutes, time.time_ns() % 1_000_000 if asked.seed is None else asked.seed, asked.report)


if __name__ == "__main__":
    sys.exit(main())
