"""Each client command against the application behind a real socket: tables for people, JSON for programs."""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.app.commands.conftest import Run
from tests.app.conftest import wait_until
from tests.conftest import tone, wav_bytes, zip_bytes
from worker.settings import Settings


def fail_reading(dataset_id: str) -> None:
    """What the worker does with an archive that can't be used."""
    from sqlalchemy import update

    from worker import database

    error = {"code": "dataset_empty", "message": "no file of the archive can be used", "param": None}
    with database.write() as session:
        session.execute(update(database.Dataset).where(database.Dataset.id == dataset_id).values(status="failed", error=error))


def newest_dataset() -> str | None:
    from sqlalchemy import select

    from worker import database

    with database.read() as session:
        return session.scalar(select(database.Dataset.id).order_by(database.Dataset.id.desc()).limit(1))


def write_events(job: str, *rows: tuple[str, str, dict[str, Any]], state: str) -> None:
    from sqlalchemy import update

    from worker import database
    from worker.lease import add_event

    with database.write() as session:
        for kind, message, data in rows:
            add_event(session, job, kind, message, data=data)
        session.execute(update(database.Job).where(database.Job.id == job).values(state=state))


EPOCH = ("metrics", "epoch 1", {"epoch": 1, "train_loss": 0.7, "validation_loss": 0.5, "validation_accuracy": 0.75})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("yes", "no"):
        (tmp_path / "words" / label).mkdir(parents=True)
        (tmp_path / "words" / label / "1.wav").write_bytes(wav_bytes(tone(440, 0.1)))
    return tmp_path / "words"


def test_a_folder_is_packed_and_sent(remote: Run, folder: Path) -> None:
    outcome = remote("datasets", "create", str(folder), "--no-wait", "--json", "--modality", "audio")
    assert (outcome.status, outcome.err) == (0, "")
    dataset = json.loads(outcome.out)
    assert (dataset["name"], dataset["modality"], dataset["status"]) == ("words", "audio", "processing")
    listed = json.loads(remote("datasets", "list", "--json").out)
    assert [row["id"] for row in listed] == [dataset["id"]]
    assert json.loads(remote("datasets", "show", dataset["id"], "--json").out) == dataset


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar", ""])
def test_an_archive_names_its_dataset(remote: Run, tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"digits{suffix}"
    archive.write_bytes(zip_bytes({"a/1.wav": b"x", "b/1.wav": b"y"}))
    assert json.loads(remote("datasets", "create", str(archive), "--no-wait", "--json").out)["name"] == "digits"


def test_wrong_files_are_told(remote: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zip").write_bytes(b"nothing")
    for path, words in ((tmp_path / "empty", "holds no files"), (tmp_path / "x.zip", "neither a zip nor a tar")):
        outcome = remote("datasets", "create", str(path))
        assert (outcome.status, outcome.out) == (1, "")
        assert words in outcome.err


def test_a_dataset_that_fails_exits_with_1(remote: Run, folder: Path, settings: Settings) -> None:
    def fail() -> None:
        wait_until(lambda: newest_dataset() is not None)
        fail_reading(newest_dataset() or "")

    worker = threading.Thread(target=fail)
    worker.start()
    outcome = remote("datasets", "create", str(folder))
    worker.join()
    assert outcome.status == 1
    assert "failed: no file of the archive can be used" in outcome.out


def test_pictures_are_drawn(remote: Run) -> None:
    """From the command to a ready dataset, with the worker beside it as in the service."""
    from sqlalchemy import select

    from worker import database
    from worker.supervisor import supervise

    def work() -> None:
        wait_until(lambda: newest_dataset() is not None)
        with database.read() as session:
            job = session.scalars(select(database.Job.id)).one()
        supervise(job)

    worker = threading.Thread(target=work)
    worker.start()
    sizes = "--labels 3 --items-per-label 5 --seed 2 --image-size 16 --generator gratings"
    outcome = remote("datasets", "generate", *sizes.split(), "--json")
    worker.join()
    assert (outcome.status, outcome.err) == (0, "")
    dataset = json.loads(outcome.out)
    assert (dataset["status"], dataset["name"], dataset["items"]) == ("ready", "gratings-3x5", 15)
    assert dataset["generator"] == {"generator": "gratings", "labels": 3, "items_per_label": 5, "seed": 2, "image_size": 16}


def test_pictures_can_be_left_to_be_drawn(remote: Run) -> None:
    outcome = remote("datasets", "generate", "--name", "shapes", "--no-wait")
    assert outcome.status == 0
    assert "shapes" in outcome.out
    assert "processing" in outcome.out


def test_what_the_service_does_not_draw_is_told(remote: Run) -> None:
    outcome = remote("datasets", "generate", "--labels", "5000", "--items-per-label", "5000", "--no-wait")
    assert (outcome.status, outcome.out) == (1, "")
    assert "/items_per_label" in outcome.err
    assert remote("datasets", "generate", "--generator", "kittens").status == 2


def test_a_job_is_created_with_what_was_said_and_nothing_else(remote: Run, make_dataset: Callable[..., str]) -> None:
    said = "--name v1 --alias digits --epochs 3 --learning-rate 0.01 --optimizer sgd --seed 7 --metadata team=ivr --metadata note=a=b"
    assigned = "--set augmentation.mixup=0.2 --set features.n_mels=32"
    outcome = remote("jobs", "create", make_dataset(), *said.split(), *assigned.split(), "--json")
    assert (outcome.status, outcome.err) == (0, "")
    job = json.loads(outcome.out)
    assert (job["name"], job["alias"], job["seed"], job["metadata"]) == ("v1", "digits", 7, {"team": "ivr", "note": "a=b"})
    chosen = job["hyperparameters"]
    assert (chosen["epochs"], chosen["learning_rate"], chosen["optimizer"], chosen["batch_size"]) == (3, 0.01, "sgd", "auto")
    assert (job["augmentation"]["mixup"], job["features"]["n_mels"]) == (0.2, 32)


def test_controls_are_asked_for_and_their_verdict_is_told(
    remote: Run, make_dataset: Callable[..., str], make_model: Callable[..., str]
) -> None:
    from sqlalchemy import update

    from worker import database, registry

    dataset, base = make_dataset(), make_model(modality="image")
    asked = f"{dataset} --base-model {base} --mode full --controls full --seeds 2"
    job = json.loads(remote("jobs", "create", *asked.split(), "--json").out)
    assert job["evaluation"]["controls"] == "full"
    assert job["evaluation"]["seeds"] == 2
    with database.write() as session:
        control = session.get_one(database.Job, job["id"])
        session.execute(update(database.Job).values(control="scratch", control_of="job_parent"))
        session.add(copy_of(control, id="job_parent", control=None, control_of=None))
        manifest = dict(session.get_one(database.Model, base).manifest)
        manifest["transfer"] = {**manifest["transfer"], "shared_layers": ["stem"]}
        evaluation = {"splits": {}, "transfer": {"sentence": "The layers helped."}}
        session.execute(update(database.Model).values(evaluation=evaluation, manifest=manifest))
    assert registry.get_evaluation(base)["transfer"]["sentence"] == "The layers helped."
    shown = remote("jobs", "show", "job_parent").out
    assert "scratch" in shown
    assert job["id"] in shown
    assert "The layers helped." in remote("models", "show", base).out


def copy_of(job: Any, **changes: Any) -> Any:
    """Another row with the same columns but for `changes`."""
    columns = {attribute.key: getattr(job, attribute.key) for attribute in type(job).__mapper__.column_attrs}
    return type(job)(**columns | changes)


QUOTE = {
    "kind": "result", "resolved": {"base_model": "resnet_tiny", "hyperparameters": {"epochs": 9}, "transfer": {"mode": "none"}},
    "device": "cpu", "trainable_parameters": 1000, "total_parameters": 2000, "steps": 90,
    "estimated_seconds": {"low": 8.0, "expected": 10.0, "high": 14.0},
    "stages": [{"name": "training", "steps": 90, "seconds": {"low": 5.0, "expected": 6.0, "high": 7.0}}],
    "peak_memory_bytes": 3 * 2**29, "disk_bytes": 5 * 2**20, "warnings": ["a [bold]warning[/bold]"],
}  # fmt: skip


def test_a_dry_run_prints_what_the_job_would_take(remote: Run, make_dataset: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import quotes

    class Order:
        def model_dump_json(self) -> str:
            return "{}"

    monkeypatch.setattr(quotes, "training_order", lambda *_: Order())
    monkeypatch.setattr(quotes, "_COMMAND", (sys.executable, "-c", f"import sys; sys.stdin.read(); print({json.dumps(QUOTE)!r})"))
    arguments = ("jobs", "create", make_dataset(), "--epochs", "9", "--dry-run")
    outcome = remote(*arguments)
    assert (outcome.status, outcome.err) == (0, "")
    shown = ("10.0 s (8.0 to 14.0)", "1,000 of 2,000", "1.5 GiB on cpu", "5.0 MiB", "6.0 s (5.0 to 7.0)", "a [bold]warning[/bold]")
    assert [words for words in shown if words not in outcome.out] == []
    assert json.loads(remote(*arguments, "--json").out) == {"object": "quote"} | {name: QUOTE[name] for name in QUOTE if name != "kind"}
    assert json.loads(remote("jobs", "list", "--json").out) == []


def test_a_refused_job_points_at_its_fields(remote: Run, make_dataset: Callable[..., str]) -> None:
    outcome = remote("jobs", "create", make_dataset(), "--epochs", "0", "--set", "sed=1", "--json")
    assert (outcome.status, outcome.out) == (1, "")
    assert "error A field is missing, unknown or out of range (422)" in outcome.err
    assert "/hyperparameters/epochs " in outcome.err
    assert "/sed " in outcome.err


@pytest.fixture
def job(remote: Run, make_dataset: Callable[..., str]) -> str:
    return str(json.loads(remote("jobs", "create", make_dataset(), "--json").out)["id"])


def test_jobs_are_listed_shown_and_cancelled(remote: Run, job: str) -> None:
    assert job in remote("jobs", "list", "--status", "queued", "--type", "finetune").out
    assert job not in remote("jobs", "list", "--status", "failed").out
    assert "epochs auto" in remote("jobs", "show", job).out
    assert json.loads(remote("jobs", "cancel", job, "--json").out)["status"] == "cancelled"
    outcome = remote("jobs", "cancel", job)
    assert outcome.status == 1
    assert "(409)" in outcome.err


def test_watching_a_job_that_succeeds(remote: Run, job: str) -> None:
    write_events(job, EPOCH, ("status", "done", {"status": "succeeded"}), state="succeeded")
    outcome = remote("jobs", "watch", job)
    assert outcome.status == 0
    lines = outcome.err.splitlines()
    assert lines == ["status accepted", "   1  loss 0.500  accuracy 75.0%", "status done"]
    assert "succeeded" in outcome.out


def test_watching_for_programs_is_one_document_a_line(remote: Run, job: str) -> None:
    write_events(job, EPOCH, ("status", "done", {"status": "succeeded"}), state="succeeded")
    outcome = remote("jobs", "watch", job, "--json")
    *events, last = [json.loads(line) for line in outcome.out.splitlines()]
    assert [event["type"] for event in events] == ["status", "metrics", "status"]
    assert (last["id"], last["status"], outcome.err) == (job, "succeeded", "")


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_does_not_succeed_exits_with_1(remote: Run, job: str, state: str) -> None:
    write_events(job, ("status", "ended", {"status": state}), state=state)
    assert remote("jobs", "watch", job).status == 1


def test_following_from_the_start(remote: Run, make_dataset: Callable[..., str]) -> None:
    from sqlalchemy import select

    from worker import database

    def newest() -> str | None:
        with database.read() as session:
            return session.scalar(select(database.Job.id))

    def work() -> None:
        wait_until(lambda: newest() is not None)
        write_events(newest() or "", EPOCH, ("status", "done", {"status": "succeeded"}), state="succeeded")

    worker = threading.Thread(target=work)
    worker.start()
    outcome = remote("jobs", "create", make_dataset(), "--follow", "--json")
    worker.join()
    assert (outcome.status, json.loads(outcome.out)["status"]) == (0, "succeeded")


def test_models_are_listed_shown_and_downloaded(
    remote: Run, make_model: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech_artifact: Path
) -> None:
    model = make_model(name="digits-v1", alias="digits")
    assert json.loads(remote("models", "list", "--name", "digits-v1", "--json").out)[0]["id"] == model
    table = remote("models", "list").out
    assert model in table
    assert "resnet_tiny" in table
    shown = json.loads(remote("models", "show", "digits", "--json").out)
    assert (shown["id"], shown["evaluation"]["object"]) == (model, "evaluation")
    assert "no, yes, stop" in remote("models", "show", "digits").out
    monkeypatch.chdir(tmp_path)
    outcome = remote("models", "download", "digits", "--onnx", "--json")
    assert json.loads(outcome.out)["file"] == "digits.onnx"
    assert Path("digits.onnx").read_bytes() == (speech_artifact / "model.onnx").read_bytes()
    assert remote("models", "download", model, "-o", str(tmp_path / "m.tar")).status == 0
    assert (tmp_path / "m.tar").stat().st_size > 0


def test_predicting_several_files(remote: Run, make_model: Callable[..., str], tmp_path: Path) -> None:
    make_model(alias="default")
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    good.write_bytes(wav_bytes(tone(440, 0.5)))
    bad.write_bytes(b"nothing")
    outcome = remote("predict", str(good), str(bad), str(good), "--json")
    assert outcome.status == 1
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert [row["file"] for row in rows] == [str(good), str(bad), str(good)]
    assert rows[0]["label"] == rows[2]["label"]
    assert rows[1]["error"]["status"] == 415
    people = remote("predict", str(good))
    assert people.status == 0
    assert rows[0]["label"] in people.out


def test_predicting_the_files_of_an_archive(remote: Run, make_model: Callable[..., str], tmp_path: Path) -> None:
    make_model(alias="default")
    sound = wav_bytes(tone(440, 0.5))
    archive, broken, alone = tmp_path / "sounds.zip", tmp_path / "broken.zip", tmp_path / "a.wav"
    archive.write_bytes(zip_bytes({"a.wav": sound, "b.txt": b"nothing", "c.wav": sound}))
    broken.write_bytes(zip_bytes({"../a.wav": sound}))
    alone.write_bytes(sound)
    outcome = remote("predict", str(archive), str(broken), str(alone), "--json")
    assert outcome.status == 1
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert [row["file"] for row in rows] == [*(f"{archive}/{name}" for name in ("a.wav", "b.txt", "c.wav")), str(broken), str(alone)]
    assert [row.get("error", {}).get("status") for row in rows] == [None, 415, None, 422, None]
    assert rows[0]["label"] == rows[2]["label"] == rows[4]["label"]
    people = remote("predict", str(archive))
    assert people.status == 1
    assert "b.txt" not in people.out
    assert str(archive / "c.wav") in people.out


def test_foreign_text_does_not_reach_the_terminal_raw(remote: Run, make_dataset: Callable[..., str]) -> None:
    make_dataset(name="\x1b[31mred\x1b[0m [bold]not bold[/bold]")
    out = remote("datasets", "list").out
    assert "\x1b" not in out
    assert "[bold]not bold[/bold]" in out
