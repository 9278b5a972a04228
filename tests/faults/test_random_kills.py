"""kill -9 at random over API, worker, trainer and broker, for a minute: every job that was taken succeeds, and ends once."""

import time
from pathlib import Path

import pytest

from tests.conftest import sound_archive
from tests.faults.chaos import FAKES, Chaos, post_job, upload_tones
from tests.faults.invariants import Answers, check_data, database, tree_of
from tests.service import Service, wait_until

SEED = 7
SECONDS = 60.0
JOBS = 30
SOON = 120.0  # after the last kill


@pytest.mark.slow
def test_a_minute_of_kills(tmp_path: Path) -> None:
    answers = Answers()
    service = Service(tmp_path / "service", **FAKES).start()
    before = tree_of(tmp_path, without=service.data_dir)
    try:
        dataset = upload_tones(service, answers, sound_archive(words=2, speakers=2, takes=1))
        chaos, jobs = Chaos(service, SEED), [post_job(service, answers, dataset, steps=20, pace=0.05) for _ in range(JOBS // 3)]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(chaos.chance.uniform(0.3, 3.0))
            chaos.kill()
            if len(jobs) < JOBS:  # posted to a service of which a part has just been killed
                jobs += [post_job(service, answers, dataset, steps=20, pace=0.05) for _ in range(2)]
        ended = time.monotonic()
        assert len(jobs) == JOBS
        wait_until(
            lambda: succeeded(service.data_dir) == JOBS,
            SOON,
            lambda: f"{succeeded(service.data_dir)} succeeded; {chaos.done}; {service.log()}",
        )
        print(f"{len(chaos.done)} kills; all {JOBS} succeeded {time.monotonic() - ended:.1f} s after the last; {answers.counts}")  # noqa: T201
    finally:
        service.stop()
    answers.check()
    check_data(service.data_dir, accepted=[dataset, *jobs], settled=True)
    assert tree_of(tmp_path, without=service.data_dir) == before


def succeeded(data_dir: Path) -> int:
    with database(data_dir) as connection:
        return int(connection.execute("SELECT count(*) FROM jobs WHERE type = 'finetune' AND state = 'succeeded'").fetchone()[0])
