"""Controls: what follows a finetune, who goes first, and what their end does to models and names."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from models.config import FeatureConfig, JobSpec, Modality, ModelManifest, NetworkConfig, Normalization, TransferRecord
from models.dataset import PackedDataset, PackedWriter
from models.errors import ConfigError
from models.evaluation import evaluation_document
from models.recipes import resolve
from models.transfer_rules import check_options
from tests.conftest import RATE, tone
from tests.rig import add_dataset, change_row, check_invariants, events, forget_messages, outbox, row, state
from worker import queue
from worker.aliases import get_alias, set_alias
from worker.database import Job, Model, new_id, read, write
from worker.datasets import delete_dataset
from worker.errors import ConflictError, QueueFullError
from worker.jobs import cancel_job, create_job, get_job, list_jobs, pause_job, resume_job
from worker.keeper import sweep
from worker.lease import claim
from worker.promotion import REFUSAL
from worker.queue import relay
from worker.registry import add_model, delete_model, find_base_model, get_evaluation
from worker.settings import Settings
from worker.storage import get_storage, new_scratch
from worker.supervisor import Supervisor
from worker.work import WORK, job_folder

LABELS = ("no", "yes")
TRUTH = [index % 2 for index in range(120)]
ITEMS = ["train"] * 8 + ["validation"] * 12 + ["test"] * 100
FEATURES = FeatureConfig(n_mels=16, hop_ms=20.0, clip_seconds=0.25, image_size=16)


@pytest.fixture
def packed(settings: Settings) -> PackedDataset:
    folder = new_scratch("packed")
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for label in TRUTH:
            writer.append((tone(400 * (1 + label), 0.02) * 32767).astype(np.int16))
        writer.finish(
            labels=LABELS, item_labels=TRUTH, item_splits=ITEMS, item_groups=[-1] * len(TRUTH), group_names=(), summary={}  # type: ignore[arg-type]  # names of splits
        )  # fmt: skip
    return PackedDataset.open(get_storage().fetch_directory(get_storage().publish_directory(folder, "datasets/tones")))


@pytest.fixture
def dataset(packed: PackedDataset) -> str:
    return add_dataset(blob="datasets/tones")


def manifest_of(modality: Modality, **fields: Any) -> ModelManifest:
    bands = 16 if modality == "audio" else 3
    network = NetworkConfig(
        modality=modality, architecture="resnet_tiny", labels=LABELS, features=FEATURES,
        normalization=Normalization(mean=(0.0,) * bands, std=(1.0,) * bands),
    )  # fmt: skip
    return ModelManifest(network=network, layers={"stem": 10, "layer1": 10, "head": 5}, **fields)


@pytest.fixture
def base(settings: Settings) -> str:
    model_id = new_id("mdl")
    with write() as session:
        add_model(session, manifest=manifest_of("image"), evaluation={}, blob="artifacts/base", size_bytes=1, model_id=model_id)
    return model_id


@pytest.fixture
def ask(dataset: str, base: str) -> Callable[..., str]:
    """Create a finetune that carries layers over and wants controls; return its id."""

    def create(*, controls: str = "full", seeds: int = 1, transfer: dict[str, Any] | None = None, **fields: Any) -> str:
        body = {
            "dataset": dataset, "base_model": base, "transfer": transfer or {"mode": "full"}, "name": "digits", "alias": "digits",
            "evaluation": {"controls": controls, "seeds": seeds}, **fields,
        }  # fmt: skip
        return str(create_job(JobSpec.model_validate(body, strict=False))["id"])

    return create


def resolved(job: Job) -> JobSpec:
    """The job as the trainer would settle it."""
    spec = JobSpec.model_validate(job.spec, strict=False)
    return resolve(spec, PackedDataset.open(get_storage().fetch_directory("datasets/tones")), source=manifest_of("image").network)


def answer(right: int, split: str) -> list[int]:
    """As many right answers for the items of a split."""
    truth = [label for label, name in zip(TRUTH, ITEMS, strict=True) if name == split]
    return [label if place < right else 1 - label for place, label in enumerate(truth)]


def succeed(job_id: str, right: int = 50, *, cancelled: bool = False, token: int = 0, **metrics: float) -> str:
    """Claim a job and let it end as if its trainer had reported; return its model."""
    claimed = claim(job_id, "here:1")
    assert claimed is not None, state(job_id)
    job = claimed.job
    spec = resolved(job)
    carried = () if spec.transfer.mode == "none" else ("stem", "layer1")
    found = {"epochs": 8.0, "steps": 80.0, "training_seconds": 16.0, "validation_accuracy": right / 100, **metrics}
    record = TransferRecord(mode=spec.transfer.mode, base_model=spec.base_model, shared_layers=carried)  # type: ignore[arg-type]  # resolved
    manifest = manifest_of("audio", transfer=record, training=spec, metrics=found)
    folder = job_folder(job_id)
    (folder / f"start-{job.token}").mkdir()
    (folder / f"start-{job.token}" / "model.json").write_text("{}")
    change_row(job_id, resolved=spec.model_dump(mode="json"), token=job.token + token)
    result = {
        "model_id": new_id("mdl"), "manifest": manifest.model_dump(mode="json"), "evaluation": evaluation_document({}), "metrics": found,
        "predictions": {"validation": answer(6, "validation"), "test": answer(right, "test")},
        "checkpoint": {"step": 80, "epoch": 8, "metrics": found}, "progress": {"fraction": 1.0}, "cancelled": cancelled,
    }  # fmt: skip
    published = WORK[job.type].succeed(job, folder, result)
    assert published == (token == 0)
    return str(result["model_id"])


def controls_of(job_id: str) -> list[Job]:
    with read() as session:
        return list(session.scalars(select(Job).where(Job.control_of == job_id).order_by(Job.id)))


def verdict_of(model: str) -> dict[str, Any]:
    found: dict[str, Any] = get_evaluation(model)["transfer"]
    return found


def test_controls_follow_at_once_and_the_model_is_there_at_once(ask: Callable[..., str], base: str) -> None:
    parent = ask()
    model = succeed(parent, 90)
    scratch, frozen = controls_of(parent)
    assert (scratch.control, frozen.control) == ("scratch", "frozen")
    assert (state(parent), scratch.state, frozen.state) == ("succeeded", "queued", "queued")
    assert {get_alias(name)["model"] for name in ("digits", "default")} == {model}
    assert verdict_of(model)["verdict"] == "unmeasured"
    assert "have not ended yet" in verdict_of(model)["reason"]
    shown = get_job(parent)
    assert shown["controls"] == [{"name": row.control, "job": row.id, "status": "queued"} for row in (scratch, frozen)]
    assert (get_job(scratch.id)["control_of"], get_job(scratch.id)["controls"]) == (parent, [])
    assert [job["id"] for job in list_jobs().data] == [parent]
    assert [job["id"] for job in list_jobs(control_of=parent).data] == [frozen.id, scratch.id]
    assert list_jobs().data[0] == shown
    assert outbox()[-2:] == [scratch.id, frozen.id]
    assert (scratch.name, scratch.alias, scratch.base_model_id) == ("digits (scratch)", None, base)
    check_invariants()


def test_a_control_is_the_same_job_but_for_what_it_controls(ask: Callable[..., str]) -> None:
    parent = ask(hyperparameters={"layer_decay": 0.9, "epochs": 7}, seed=3)
    succeed(parent)
    asked, (scratch, frozen) = row(parent).resolved, (control.spec for control in controls_of(parent))
    assert asked is not None
    same = ("dataset", "type", "base_model", "features", "augmentation", "seed")
    assert [scratch[name] for name in same] == [frozen[name] for name in same] == [asked[name] for name in same]
    assert scratch["transfer"]["mode"] == "none"
    assert scratch["hyperparameters"] == asked["hyperparameters"] | {"layer_decay": 1.0}
    assert frozen["transfer"] == asked["transfer"] | {"freeze": "shared"}
    assert frozen["hyperparameters"] == asked["hyperparameters"]
    assert "auto" not in (*scratch["hyperparameters"].values(), *frozen["hyperparameters"].values())
    assert scratch["evaluation"]["controls"] == frozen["evaluation"]["controls"] == "none", "or they would have controls themselves"


@pytest.mark.parametrize(
    "transfer",
    [
        {"mode": "full", "freeze": "gradual", "thaw_from": "input", "statistics": "target"},
        {"mode": "full", "probe_first": True, "regularize": "l2_sp", "regularize_strength": 0.5, "interpolate": 0.5},
        {"mode": "partial", "until": "layer1", "input_rule": "mean"},
    ],
)
def test_every_way_of_transferring_has_controls_that_can_be_trained(ask: Callable[..., str], transfer: dict[str, Any]) -> None:
    parent = ask(transfer=transfer)
    succeed(parent)
    for control in controls_of(parent):
        spec = resolved(control)
        assert spec.model_dump(mode="json")["hyperparameters"] == control.spec["hyperparameters"]
        check_options(spec.transfer, carries=control.control == "frozen")
        assert spec.transfer.until == (transfer.get("until") if control.control == "frozen" else None)


def test_seeds_are_compared_in_pairs(ask: Callable[..., str]) -> None:
    parent = ask(seeds=3, seed=2**31 - 2)
    succeed(parent)
    found = [(control.control, control.spec["seed"]) for control in controls_of(parent)]
    last, first = 2**31 - 1, 0
    # Sorted: ids that were given in one millisecond come in no particular order.
    assert sorted(found) == sorted([
        ("scratch", 2**31 - 2), ("frozen", 2**31 - 2), ("repeat", last), ("scratch", last), ("frozen", last),
        ("repeat", first), ("scratch", first), ("frozen", first),
    ])  # fmt: skip
    repeats = [control for control in controls_of(parent) if control.control == "repeat"]
    assert all(control.spec["transfer"]["freeze"] == "none" for control in repeats)


def test_a_frozen_job_needs_no_frozen_control(ask: Callable[..., str]) -> None:
    parent = ask(transfer={"mode": "full", "freeze": "shared"})
    succeed(parent)
    assert [control.control for control in controls_of(parent)] == ["scratch"]


def test_auto_costs_a_quarter(ask: Callable[..., str]) -> None:
    parent = ask(controls="auto")
    model = succeed(parent, 90, epochs=9.0, training_seconds=20.0)
    [scratch] = controls_of(parent)
    assert (scratch.control, scratch.spec["hyperparameters"]["epochs"], scratch.spec["hyperparameters"]["max_seconds"]) == (
        "scratch",
        2,
        5.0,
    )
    succeed(scratch.id, 50)
    assert verdict_of(model)["controls"][0]["share"] == 0.25
    assert "25% of the training time" in verdict_of(model)["sentence"]


def test_no_controls_without_being_asked_or_without_a_transfer(ask: Callable[..., str], dataset: str) -> None:
    plain = ask(controls="none")
    assert verdict_of(succeed(plain))["reason"] == "no controls were asked for"
    open_choice = ask(transfer={"mode": "auto"})
    change_row(open_choice, spec=row(open_choice).spec | {"transfer": {"mode": "none"}})  # what a race may end with
    assert "nothing was carried over" in verdict_of(succeed(open_choice))["reason"]
    ended_early = ask()
    succeed(ended_early, cancelled=True)
    assert [controls_of(job) for job in (plain, open_choice, ended_early)] == [[], [], []]


def test_a_start_that_was_taken_over_creates_nothing(ask: Callable[..., str]) -> None:
    parent = ask()
    succeed(parent, token=1)
    assert (state(parent), controls_of(parent)) == ("running", [])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"transfer": {"mode": "none"}}, "evaluation.controls"),
        ({"base_model": "resnet_tiny", "transfer": {"mode": "auto"}}, "evaluation.controls"),
        ({"type": "pretrain"}, "evaluation.controls"),
        ({"controls": "none", "seeds": 2}, "evaluation.seeds"),
        ({"controls": "auto", "seeds": 2}, "evaluation.seeds"),
    ],
)
def test_controls_that_would_tell_nothing_are_refused(ask: Callable[..., str], fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ask(**fields)
    assert raised.value.param == param


def test_the_last_control_to_end_brings_the_verdict(ask: Callable[..., str]) -> None:
    parent = ask()
    model = succeed(parent, 90)
    scratch, frozen = controls_of(parent)
    succeed(scratch.id, 50)
    assert verdict_of(model)["verdict"] == "unmeasured"
    other = succeed(frozen.id, 70)
    found = verdict_of(model)
    assert (found["verdict"], found["gain"], found["split"], found["n"]) == ("positive", pytest.approx(0.4), "test", 100)
    assert [(row["name"], row["job"], row["accuracy"]) for row in found["controls"]] == [
        ("scratch", scratch.id, 0.5),
        ("frozen", frozen.id, 0.7),
    ]
    assert found["controls"][1]["model"] == other
    told = events(parent)[-1]
    assert (told.type, told.level, told.message, told.data["transfer"]) == ("message", "info", found["sentence"], found)
    assert {get_alias(name)["model"] for name in ("digits", "default")} == {model}
    assert verdict_of(other)["verdict"] == "unmeasured", "a control's own model is judged by nobody"
    check_invariants()


def test_when_it_was_as_good_is_read_from_the_jobs_own_metrics(ask: Callable[..., str]) -> None:
    from worker.lease import add_event

    parent = ask()
    with write() as session:
        for step, accuracy in ((20, 0.3), (40, 0.6), (60, 0.9)):
            add_event(session, parent, "metrics", "", data={"step": step, "epoch": step // 10, "validation_accuracy": accuracy})
    model = succeed(parent, 90)
    for control in controls_of(parent):
        succeed(control.id, 50)
    assert (verdict_of(model)["steps_to_match"], verdict_of(model)["seconds_to_match"]) == (40, 8.0)


@pytest.mark.parametrize(("mode", "moves"), [("auto", True), ("full", False)])
def test_a_bad_verdict_moves_names_only_where_auto_chose(ask: Callable[..., str], base: str, mode: str, moves: bool) -> None:
    parent = ask(transfer={"mode": mode})
    change_row(parent, spec=row(parent).spec | {"transfer": {"mode": "full"}})
    claimed_as = row(parent).spec
    model = succeed(parent, 50)
    change_row(parent, spec=claimed_as | {"transfer": {"mode": mode}})
    set_alias("mine", model)
    set_alias("elsewhere", base)
    scratch, frozen = controls_of(parent)
    better = succeed(scratch.id, 95)
    succeed(frozen.id, 60)
    assert verdict_of(model)["verdict"] == "negative"
    assert {get_alias(name)["model"] for name in ("digits", "default", "mine")} == {better if moves else model}
    assert get_alias("elsewhere")["model"] == base
    told = events(parent)[-2:] if moves else events(parent)[-1:]
    assert [event.level for event in told] == ["warning"] * len(told)
    assert not moves or told[-1].data == {"aliases": ["default", "digits", "mine"], "model": better}


def test_names_do_not_move_to_a_control_that_did_not_answer_as_it_should(ask: Callable[..., str]) -> None:
    parent = ask()
    model = succeed(parent, 50)
    change_row(parent, spec=row(parent).spec | {"transfer": {"mode": "auto"}})
    scratch, frozen = controls_of(parent)
    best = succeed(scratch.id, 95)
    with write() as session:
        found = session.get_one(Model, best)
        found.evaluation = found.evaluation | {REFUSAL: "its golden clip 'noise' is answered 0.05 off"}
    second = succeed(frozen.id, 90)
    assert verdict_of(model)["verdict"] == "negative"
    assert {get_alias(name)["model"] for name in ("digits", "default")} == {second}


def test_names_that_have_moved_on_stay_where_they_are(ask: Callable[..., str], base: str) -> None:
    parent = ask()
    model = succeed(parent, 50)
    change_row(parent, spec=row(parent).spec | {"transfer": {"mode": "auto"}})
    set_alias("digits", base)
    for control in controls_of(parent):
        better = succeed(control.id, 95)
        if control.control == "scratch":
            chosen = better
    assert (get_alias("digits")["model"], get_alias("default")["model"]) == (base, chosen)
    assert get_alias("default")["model"] != model


def lose(job_id: str) -> None:
    claimed = claim(job_id, "here:1")
    assert claimed is not None
    Supervisor(claimed.job, WORK["finetune"], Settings())._fail({"code": "out_of_memory", "message": "no memory", "param": None})


def cancel_queued(job_id: str) -> None:
    cancel_job(job_id)


def cancel_running(job_id: str) -> None:
    claimed = claim(job_id, "here:1")
    assert claimed is not None
    cancel_job(job_id)
    Supervisor(claimed.job, WORK["finetune"], Settings())._requeue("stopped as asked")


def cancel_and_lose_the_host(job_id: str) -> None:
    assert claim(job_id, "another-host:1") is not None
    cancel_job(job_id)
    change_row(job_id, lease_until=1.0)
    sweep(Settings())


@pytest.mark.parametrize("end", [lose, cancel_queued, cancel_running, cancel_and_lose_the_host])
@pytest.mark.parametrize("last", ["scratch", "frozen"])
def test_however_the_last_control_ends_there_is_a_verdict(
    ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch, end: Callable[[str], None], last: str
) -> None:
    monkeypatch.setattr("worker.keeper.waiting_messages", lambda _: 0)
    parent = ask()
    model = succeed(parent, 90)
    by_name = {str(control.control): control.id for control in controls_of(parent)}
    succeed(by_name["frozen" if last == "scratch" else "scratch"], 50)
    end(by_name[last])
    found = verdict_of(model)
    assert found["verdict"] == ("unmeasured" if last == "scratch" else "positive")
    assert events(parent)[-1].message == found["sentence"]
    assert found["reason"] is None or found["reason"] in ("the control from scratch failed", "the control from scratch was cancelled")
    check_invariants()


def test_a_paused_control_keeps_the_verdict_waiting(ask: Callable[..., str]) -> None:
    parent = ask(controls="auto")
    model = succeed(parent, 90)
    [scratch] = controls_of(parent)
    pause_job(scratch.id)
    assert verdict_of(model)["reason"] == "the controls have not ended yet"
    resume_job(scratch.id)
    succeed(scratch.id, 50)
    assert verdict_of(model)["verdict"] == "positive"


class Recorder:
    """Takes messages."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send_task(self, name: str, *, args: Sequence[str], queue: str) -> None:
        self.sent += args


def test_others_go_first(ask: Callable[..., str], dataset: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Recorder()
    monkeypatch.setattr(queue, "_celery", lambda: broker)
    parent = ask()
    succeed(parent)
    forget_messages()
    scratch, frozen = (control.id for control in controls_of(parent))
    sweep_messages(monkeypatch)
    other = add_plain(dataset)
    relay()
    assert broker.sent == [other], "a control's message waits in the outbox"
    assert claim(scratch, "here:1") is None, "and one that is on its way is no use"
    assert claim(other, "here:1") is not None
    relay()
    assert broker.sent == [other, scratch, frozen]
    late = add_plain(dataset)
    assert claim(scratch, "here:1") is None
    assert row(scratch).published_at is None
    cancel_job(late)
    sweep_messages(monkeypatch)
    relay()
    assert broker.sent[-1] == scratch, "its message was used up, so there is another one"
    assert claim(scratch, "here:1") is not None
    assert claim(add_plain(dataset), "here:2") is not None, "what has started is not stopped"


def sweep_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.keeper.waiting_messages", lambda _: 100)
    sweep(Settings())


def add_plain(dataset: str) -> str:
    return str(create_job(JobSpec(dataset=dataset, base_model=None))["id"])


def test_jobs_of_another_queue_hold_nobody_up(ask: Callable[..., str], dataset: str) -> None:
    parent = ask()
    succeed(parent)
    other = add_plain(dataset)
    change_row(other, queue="data")
    assert claim(controls_of(parent)[0].id, "here:1") is not None


def test_controls_take_no_place_in_the_queue(
    ask: Callable[..., str], dataset: str, change_setting: Callable[..., Settings], settings: Settings
) -> None:
    parent = ask(seeds=3)
    succeed(parent)
    change_setting(max_queued_jobs=1)
    add_plain(dataset)
    with pytest.raises(QueueFullError):
        add_plain(dataset)


def test_what_controls_need_is_not_deleted(ask: Callable[..., str], dataset: str, base: str) -> None:
    parent = ask()
    model = succeed(parent)
    set_alias("digits", base)
    set_alias("default", base)
    with pytest.raises(ConflictError) as raised:
        delete_dataset(dataset)
    assert raised.value.code == "dataset_in_use"
    for needed in (model, find(base)):
        with pytest.raises(ConflictError) as raised:
            delete_model(needed)
        assert raised.value.code == "model_in_use"
    for control in controls_of(parent):
        cancel_job(control.id)
    delete_model(model)
    delete_dataset(dataset)


def find(base: str) -> str:
    """The base, of which no alias speaks any more."""
    with write() as session:
        found = find_base_model(session, base)
    set_alias("digits", add_other())
    set_alias("default", add_other())
    return str(found.model_id)


def add_other() -> str:
    model_id = new_id("mdl")
    with write() as session:
        add_model(session, manifest=manifest_of("audio"), evaluation={}, blob=f"artifacts/{model_id}", size_bytes=1, model_id=model_id)
    return model_id


def test_answers_are_kept_beside_the_truth_and_not_read_with_every_list(ask: Callable[..., str]) -> None:
    model = succeed(ask(controls="none"), 90)
    with read() as session:
        found = session.scalar(select(Model.predictions).where(Model.id == model))
        assert "predictions" not in session.get_one(Model, model).__dict__
    assert found is not None
    assert set(found) == {"validation", "test"}
    assert found["test"]["truth"] == TRUTH[20:]
    assert found["test"]["predicted"] == answer(90, "test")
