"""`synesthesia transferability` against the application, with a worker's part played by the test."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.app.commands.conftest import Run
from tests.app.conftest import wait_until
from worker import database
from worker.lease import add_event
from worker.settings import Settings

SCORES = {"knn": 0.9, "linear_probe": 0.8, "logme": 0.1234567, "h_score": 2.0}
CANDIDATE = {
    "rank": 1, "candidate": "mdl_1", "kind": "model", "architecture": "resnet_tiny", "scores": SCORES, "knn_interval_95": [0.8, 0.95],
    "random_knn": 0.5, "gain": 0.4, "better_than_random": True, "statistics": "target", "layers": [], "until": "layer3",
    "has_seen_dataset": True, "seconds": 1.0,
}  # fmt: skip
WORSE = CANDIDATE | {"rank": 2, "candidate": "mdl_2", "better_than_random": False, "has_seen_dataset": False}


@pytest.fixture
def play(settings: Settings) -> Callable[..., threading.Thread]:
    """End the first job as a worker would."""

    def newest() -> str | None:
        with database.read() as session:
            return session.scalar(select(database.Job.id))

    def work(state: str, values: dict[str, Any]) -> None:
        wait_until(lambda: newest() is not None)
        with database.write() as session:
            job = session.scalar(select(database.Job.id)) or ""
            session.execute(update(database.Job).where(database.Job.id == job).values(state=state, **values))
            add_event(session, job, "status", "ended", data={"status": state})

    def play(state: str, **values: Any) -> threading.Thread:
        worker = threading.Thread(target=work, args=(state, values))
        worker.start()
        return worker

    return play


def result_of(dataset: str, *candidates: dict[str, Any], skipped: list[dict[str, str]] | None = None) -> dict[str, Any]:
    return {
        "dataset": dataset, "clips": 100, "labels": 3, "held_out": "group", "chance": 0.34, "features": {},
        "candidates": list(candidates), "skipped": skipped or [],
    }  # fmt: skip


def test_a_table_for_people(remote: Run, play: Callable[..., threading.Thread], make_dataset: Callable[..., str]) -> None:
    dataset = make_dataset()
    skipped = [{"candidate": "mdl_3", "code": "model_deleted", "message": "it has gone"}]
    worker = play("succeeded", result=result_of(dataset, CANDIDATE, WORSE, skipped=skipped))
    outcome = remote("transferability", dataset)
    worker.join()
    assert outcome.status == 0, outcome.err
    first, second, *_ = [line for line in outcome.out.splitlines() if line.lstrip().startswith(("1 ", "2 "))]
    for shown in ("mdl_1 (has heard these clips)", "90.0%", "50.0%", "yes", "0.1235", "layer3"):
        assert shown in first
    assert "no, worse" in second
    assert "it has gone" in outcome.out


def test_json_for_programs(remote: Run, play: Callable[..., threading.Thread], make_dataset: Callable[..., str]) -> None:
    dataset = make_dataset()
    worker = play("succeeded", result=result_of(dataset, CANDIDATE))
    outcome = remote("transferability", dataset, "--candidates", "seed_cnn", "--candidates", "resnet_tiny", "--json")
    worker.join()
    assert (outcome.status, outcome.err) == (0, "")
    assert json.loads(outcome.out) == result_of(dataset, CANDIDATE)
    with database.read() as session:
        assert session.scalars(select(database.Job.spec)).one()["candidates"] == ["seed_cnn", "resnet_tiny"]


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("failed", {"code": "too_few_labels", "message": "all have one label", "param": None}, "all have one label"),
        ("cancelled", None, "cancelled"),
    ],
)
def test_a_ranking_that_does_not_succeed_exits_with_1(
    remote: Run, play: Callable[..., threading.Thread], make_dataset: Callable[..., str], state: str, error: Any, words: str
) -> None:
    worker = play(state, error=error)
    outcome = remote("transferability", make_dataset(), "--json")
    worker.join()
    assert (outcome.status, outcome.out) == (1, "")
    assert words in outcome.err


def test_an_unknown_candidate_is_named(remote: Run, make_dataset: Callable[..., str]) -> None:
    outcome = remote("transferability", make_dataset(), "-c", "nobody")
    assert outcome.status == 1
    assert "'nobody'" in outcome.err
