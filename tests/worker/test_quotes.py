"""Quotes as the API asks for them: the checks of a posted job, a process of its own, and nothing left behind."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import select

from models.config import JobSpec
from models.dataset import PackedWriter
from models.errors import ArtifactError, ConfigError, SynesthesiaError, UnavailableError
from tests.conftest import RATE, tone
from tests.rig import ROOT, add_dataset, add_job
from worker import quotes
from worker.database import Event, Job, Outbox, read
from worker.errors import CapacityError, NotFoundError, OverloadedError
from worker.quotes import quote_job
from worker.settings import Settings
from worker.storage import get_storage

RESULT = {"kind": "result", "estimated_seconds": {"low": 1.0, "expected": 2.0, "high": 3.0}, "disk_bytes": 1, "warnings": []}


def spec(dataset: str, **fields: Any) -> JobSpec:
    return JobSpec.model_validate({"dataset": dataset, "base_model": None, **fields}, strict=False)


@pytest.fixture
def dataset(settings: Settings, tmp_path: Path) -> str:
    """A stored dataset of tones."""
    folder = tmp_path / "packed"
    folder.mkdir()
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for index in range(24):
            writer.append((tone(400 * (1 + index % 2), 0.25, seed=index) * 32767).astype(np.int16))
        splits: list[Any] = ["train"] * 16 + ["validation"] * 8
        writer.finish(
            labels=("low", "high"), item_labels=[index % 2 for index in range(24)], item_splits=splits,
            item_groups=[-1] * 24, group_names=(), summary={},
        )  # fmt: skip
    return add_dataset(blob=get_storage().publish_directory(folder, "datasets/tones"))


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a few lines of Python in the quoter's place; its order has been read by then."""

    def put(code: str) -> None:
        source = f"import sys, os, json, time, signal\norder = json.loads(sys.stdin.read())\n{code}"
        monkeypatch.setattr(quotes, "_COMMAND", (sys.executable, "-c", source))

    return put


def rows() -> list[int]:
    with read() as session:
        return [len(session.scalars(select(table)).all()) for table in (Job, Event, Outbox)]


def test_a_quote_of_a_real_probe_stores_nothing(settings: Settings, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "QUOTE_SECONDS", 240.0)  # other tests may hold the processors
    before, files = rows(), sorted(settings.scratch_dir.rglob("*"))
    found = quote_job(spec(dataset, hyperparameters={"epochs": 4}, features={"n_mels": 16}))
    assert found["object"] == "quote"
    assert found["resolved"]["hyperparameters"]["epochs"] == 4
    assert found["resolved"]["type"] == "finetune"
    assert "auto" not in json.dumps(found["resolved"])
    assert found["steps"] == 4
    assert found["estimated_seconds"]["expected"] > 1
    assert found["warnings"] == []
    assert rows() == before
    assert sorted(settings.scratch_dir.rglob("*")) == files
    assert [process for process in psutil.Process().children(recursive=True) if "quoter" in " ".join(process.cmdline())] == []


def test_what_a_posted_job_is_refused_for(settings: Settings, dataset: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        quote_job(spec("ds_0123"))
    assert raised.value.code == "dataset_not_found"
    with pytest.raises(ConfigError) as refused:
        quote_job(spec(dataset, transfer={"mode": "full"}))
    assert refused.value.param == "transfer.mode"


def test_the_order_is_the_one_that_the_job_would_have(dataset: str, child: Callable[[str], None]) -> None:
    child(f"result = {RESULT!r}\nresult['order'] = order\nprint(json.dumps(result))")
    order = quote_job(spec(dataset, seed=7))["order"]
    assert (order["spec"]["seed"], order["spec"]["type"], order["resolved"]) == (7, "finetune", None)
    assert Path(order["dataset_directory"]).is_dir()


@pytest.mark.parametrize(
    ("family", "kind"), [("UnavailableError", UnavailableError), ("ArtifactError", ArtifactError), ("TrainingError", ConfigError)]
)
def test_a_failure_keeps_its_code(dataset: str, child: Callable[[str], None], family: str, kind: type[SynesthesiaError]) -> None:
    failure = {
        "kind": "failed",
        "family": family,
        "code": "out_of_memory",
        "message": "no",
        "param": "hyperparameters.batch_size",
        "hint": None,
    }
    child(f"print(json.dumps({failure!r})); sys.exit(1)")
    with pytest.raises(kind) as raised:
        quote_job(spec(dataset))
    assert (raised.value.code, raised.value.param) == ("out_of_memory", "hyperparameters.batch_size")


@pytest.mark.parametrize(
    ("code", "words"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"), ("print('{'); sys.exit(3)", "exit code 3"), ("print('[1]')", "code 0")],
)
def test_a_child_that_dies_is_a_service_that_fails_for_now(dataset: str, child: Callable[[str], None], code: str, words: str) -> None:
    child(code)
    with pytest.raises(CapacityError, match=words) as raised:
        quote_job(spec(dataset))
    assert raised.value.code == "quote_failed"


def test_a_slow_child_is_ended_with_all_that_it_started(
    dataset: str, child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(tmp_path / "pid")
    child(f"pid = os.fork()\nif pid:\n    with open({path!r}, 'w') as file: file.write(f'{{os.getpid()}} {{pid}}')\ntime.sleep(60)")
    monkeypatch.setattr(quotes, "QUOTE_SECONDS", 2.0)
    with pytest.raises(CapacityError) as raised:
        quote_job(spec(dataset))
    assert (raised.value.code, raised.value.retry_after) == ("quote_timeout", 60)
    parent, grandchild = (tmp_path / "pid").read_text().split()[:2]
    _, alive = psutil.wait_procs([psutil.Process(int(pid)) for pid in (parent, grandchild) if psutil.pid_exists(int(pid))], timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_two_quotes_at_once_and_no_more(dataset: str, child: Callable[[str], None], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    child(
        f"open(os.path.join({str(tmp_path)!r}, f'in-{{os.getpid()}}'), 'w').close()\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint(json.dumps({RESULT!r}))"
    )
    answers: list[dict[str, Any]] = []
    askers = [threading.Thread(target=lambda: answers.append(quote_job(spec(dataset)))) for _ in range(quotes.MAX_QUOTES)]
    for asker in askers:
        asker.start()
    while len(list(tmp_path.glob("in-*"))) < quotes.MAX_QUOTES:
        time.sleep(0.01)
    with pytest.raises(OverloadedError) as raised:
        quote_job(spec(dataset))
    assert raised.value.retry_after >= 1
    gate.touch()
    for asker in askers:
        asker.join()
    assert len(answers) == quotes.MAX_QUOTES
    assert quote_job(spec(dataset))["object"] == "quote", "a place is free again"


def test_a_quoter_dies_with_the_process_that_asked(dataset: str, child: Callable[[str], None]) -> None:
    child(f"result = {RESULT!r}\nresult['order'] = order\nprint(json.dumps(result))")
    order = quote_job(spec(dataset))["order"]
    code = (
        "import json, os, subprocess, sys, time\n"
        "order = json.loads(sys.stdin.read()) | {'parent_pid': os.getpid()}\n"
        "child = subprocess.Popen([sys.executable, '-m', 'worker.quoter'], stdin=subprocess.PIPE, start_new_session=True)\n"
        "child.stdin.write(json.dumps(order).encode()); child.stdin.close()\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    asker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert asker.stdin is not None
    assert asker.stdout is not None
    asker.stdin.write(json.dumps(order).encode())
    asker.stdin.close()
    quoter = psutil.Process(int(asker.stdout.readline()))
    asker.kill()
    asker.wait()
    asker.stdout.close()
    try:
        quoter.wait(timeout=20)
    except psutil.TimeoutExpired:  # a child of nobody here stays a zombie where the machine's first process does not bury it
        assert quoter.status() == psutil.STATUS_ZOMBIE


def test_warnings_of_this_service(dataset: str, child: Callable[[str], None], change_setting: Callable[..., Settings]) -> None:
    add_job(dataset)
    change_setting(job_seconds=60)
    child(f"print(json.dumps({RESULT | {'estimated_seconds': {'low': 1, 'expected': 100, 'high': 200}, 'disk_bytes': 2**60}!r}))")
    service, disk, waiting = quote_job(spec(dataset))["warnings"]
    assert "60 s" in service
    assert "disk" in disk
    assert "running: 1" in waiting
