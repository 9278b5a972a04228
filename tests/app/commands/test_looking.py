"""watch, compare, report and export against the application behind a socket, with rows such as jobs leave behind."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.commands import watch as watching
from app.commands.curves import BLOCKS, curve_of, drawn, measure_of
from app.commands.watch import Watched, picture
from models.evaluation import wilson_interval
from tests.app.commands.conftest import Run
from tests.rig import add_job
from worker.database import Job, Model, write
from worker.lease import add_event, add_status

EVIL = "[red]<img src=x onerror=alert(1)>"


def epoch(number: int, accuracy: float) -> dict[str, Any]:
    return {"epoch": number, "step": 10 * number, "train_loss": 1 / number, "validation_accuracy": accuracy, "learning_rate": None}


def ended(*accuracies: float, model: str | None = None, **columns: Any) -> str:
    """A job that has succeeded, with a metrics event an epoch."""
    job = add_job()
    values = {"state": "succeeded", "model_id": model, "finished_at": 1_767_225_609.5, "metrics": {"test_accuracy": 0.9}, **columns}
    with write() as session:
        for number, accuracy in enumerate(accuracies, 1):
            add_event(session, job, "metrics", f"epoch {number}", data=epoch(number, accuracy))
        session.execute(update(Job).where(Job.id == job).values(**values))
        add_status(session, job, "succeeded", "succeeded with a model")
    return job


def judged(model: str, right: int, n: int, *, dataset: str = "ds_1", job: str | None = None) -> str:
    split = {
        "accuracy": right / n, "interval_95": wilson_interval(right, n), "n": n, "ece": 0.02, "macro_f1": right / n,
        "per_label": {"yes": {"f1": right / n, "precision": 0.9, "recall": 0.9, "support": n}, EVIL: {"f1": None, "support": 0}},
        "confusion_matrix": None, "confused": [], "reliability": [], "reject_curve": [],
    }  # fmt: skip
    with write() as session:
        values = {"evaluation": {"splits": {"test": split}}, "dataset_id": dataset, "job_id": job}
        session.execute(update(Model).where(Model.id == model).values(**values))
    return model


@pytest.fixture
def two(make_model: Callable[..., str]) -> tuple[str, str]:
    """A good model and a bad one, whose answers to single items were not kept."""
    return judged(make_model(name="good"), 95, 100), judged(make_model(name="bad"), 60, 100)


def test_models_that_can_be_told_apart(remote: Run, two: tuple[str, str]) -> None:
    found = json.loads(remote("compare", *two, "--json").out)
    assert (found["test"], found["told_apart"], found["difference"]) == ("intervals", True, pytest.approx(0.35))
    assert found["sentence"].startswith(f"{two[0]} is better than {two[1]}, by 35.0 points")
    assert [row["label"] for row in found["per_label"]] == ["yes", EVIL]
    turned = json.loads(remote("compare", two[1], two[0], "--json").out)
    assert turned["sentence"].startswith(f"{two[0]} is better than {two[1]}")
    shown = remote("compare", *two)
    assert shown.status == 0
    assert EVIL in shown.out


def test_models_that_can_not(remote: Run, two: tuple[str, str], make_model: Callable[..., str]) -> None:
    third = judged(make_model(), 94, 100)
    found = json.loads(remote("compare", two[0], third, "--json").out)
    assert not found["told_apart"]
    assert found["sentence"].startswith("They can't be told apart")


def test_jobs_are_compared_by_their_models(remote: Run, two: tuple[str, str]) -> None:
    jobs = [ended(model=model) for model in two]
    assert json.loads(remote("compare", *jobs, "--json").out)["first"]["id"] == two[0]
    without = ended()
    refused = remote("compare", jobs[0], without)
    assert (refused.status, refused.out) == (1, "")
    assert "has made no model" in refused.err


def test_what_was_not_judged_is_told(remote: Run, two: tuple[str, str]) -> None:
    refused = remote("compare", *two, "--split", "validation")
    assert refused.status == 1
    assert "judged on no validation items" in refused.err


def test_a_report_of_a_model_tells_of_its_job(remote: Run, make_model: Callable[..., str], tmp_path: Path) -> None:
    model = make_model(name=EVIL)
    job = ended(0.5, 0.75, model=model, name=EVIL)
    control = ended(0.25, 0.5, control_of=job, control="scratch")
    judged(model, 95, 100, job=job)
    for subject in (job, model):
        target = tmp_path / "report.html"
        outcome = remote("report", subject, "-o", str(target))
        assert (outcome.status, outcome.err) == (0, "")
        text = target.read_text(encoding="utf-8")
        assert "<img" not in text
        for words in ("validation accuracy", f"scratch …{control[-4:]}", "On test items", job, model):
            assert words in text


def test_a_report_of_a_job_without_a_model(remote: Run, tmp_path: Path) -> None:
    job = ended(0.5, state="failed", error={"code": "diverged", "message": "the loss is not finite", "param": None})
    assert remote("report", job, "-o", str(tmp_path / "x.html")).status == 0
    assert "the loss is not finite" in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_metrics_of_a_job_and_its_controls_are_exported(remote: Run, tmp_path: Path) -> None:
    job = ended(0.5, 0.75)
    control = ended(0.25, control_of=job, control="scratch")
    found = json.loads(remote("export", job, str(tmp_path), "--to", "tensorboard", "--json").out)
    names = {Path(path).parent.name for path in found["files"]}
    assert names == {job, f"{job}-scratch-{control[-4:]}"}
    content = (tmp_path / job / f"events.out.tfevents.{job}").read_bytes()
    assert [content.count(tag) for tag in (b"validation_accuracy", b"train_loss", b"final/test_accuracy", b"learning_rate")] == [2, 2, 1, 0]
    refused = remote("export", job, str(tmp_path), "--to", "mlflow")
    assert (refused.status, "mlflow server" in refused.err) == (1, True)


def test_jobs_that_have_ended_are_watched_at_once(remote: Run) -> None:
    first, second = ended(0.5, 0.75), ended(0.25)
    outcome = remote("watch", first, second)
    assert outcome.status == 0
    assert f"{first}  epoch 2" in outcome.out
    rows = [json.loads(line) for line in remote("watch", first, second, "--json").out.splitlines()]
    assert [row["data"]["epoch"] for row in rows if row["type"] == "metrics" and row["job"] == first] == [1, 2]
    assert remote("watch").status == 0  # nothing is queued


def test_a_job_that_fails_is_an_exit_status(remote: Run) -> None:
    assert remote("watch", ended(0.5, state="failed")).status == 1


def test_a_job_is_followed_while_it_learns(remote: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is an epoch; the last one ends the job."""
    job = add_job()
    pauses: list[float] = []

    def work(seconds: float) -> None:
        pauses.append(seconds)
        with write() as session:
            add_event(session, job, "metrics", f"epoch {len(pauses)}", data=epoch(len(pauses), 0.5))
            if len(pauses) == 3:
                session.execute(update(Job).where(Job.id == job).values(state="succeeded"))
                add_status(session, job, "succeeded", "done")

    monkeypatch.setattr(watching.time, "sleep", work)
    outcome = remote("watch")
    assert outcome.status == 0
    assert [line.partition("  ")[2] for line in outcome.out.splitlines()] == ["accepted", "epoch 1", "epoch 2", "epoch 3", "done"]


def test_a_picture_has_curves_of_the_job_and_its_controls() -> None:
    from rich.console import Console

    def metrics(*values: float) -> list[dict[str, Any]]:
        return [{"type": "metrics", "data": epoch(number, value)} for number, value in enumerate(values, 1)]

    progress = {"phase": "training", "epoch": 2, "epochs": 9, "fraction": 0.2, "eta_seconds": 3725.0}
    job = {"id": "job_1", "name": EVIL, "status": "running", "progress": progress}
    control = Watched({"id": "job_2", "status": "running"}, metrics(0.1, 0.2))
    console = Console(width=100, record=True, force_terminal=True, file=io.StringIO())
    console.print(picture(Watched(job, metrics(0.5, 0.9), {"scratch": control})))
    text = console.export_text()
    for words in ("job_1", EVIL, "training", "epoch 2 of 9", "1:02:05 left", "validation accuracy  90.0%", "scratch  20.0%"):
        assert words in text
    assert any(block in text for block in BLOCKS[1:])


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.0, 1.0), [" █", "▁█"]), ((0.5, 0.5), ["  ", "██"]), ((), ["", ""]), ((-5.0, 7.0), [" █", "▁█"])],
)
def test_columns_are_as_high_as_their_values(values: tuple[float, ...], expected: list[str]) -> None:
    assert drawn(values, 0.0, 1.0, width=10, height=2) == expected


def test_more_values_than_columns_keep_the_last() -> None:
    (line,) = drawn([0.0] * 99 + [1.0], 0.0, 1.0, width=10, height=1)
    assert (len(line), line[-1], line[0]) == (10, "█", "▁")


def test_the_measure_that_says_most_is_drawn() -> None:
    rows = [{"data": {"train_loss": 0.5, "validation_loss": None}}, {"data": {"train_loss": 0.4}}]
    assert measure_of(rows) == "train_loss"
    assert curve_of(rows, "train_loss").values == (0.5, 0.4)
    assert measure_of([*rows, {"data": {"validation_loss": 0.3}}]) == "validation_loss"
    assert measure_of([*rows, {"data": {"validation_loss": 0.3, "validation_accuracy": 0.9}}]) == "validation_accuracy"
