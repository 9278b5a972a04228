"""What the doctor says of machines that lack something. torch is looked at in a process of its own: here a stub stands for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.commands import doctor as examining
from app.commands.doctor import Finding
from tests.app.commands.conftest import Run
from worker.settings import Settings

TORCH = "import json; print(json.dumps({'version': '2.11', 'built_for': None, 'gpus': %s}))"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_TORCH", TORCH % "[]")


def checks(run: Run, *arguments: str, status: int = 0) -> dict[str, dict[str, Any]]:
    outcome = run("doctor", "--json", *arguments)
    assert outcome.status == status, outcome.out
    return {row["name"]: row for row in json.loads(outcome.out)["checks"]}


def test_a_machine_that_has_all(remote: Run) -> None:
    found = checks(remote)
    assert {row["status"] for row in found.values()} <= {"ok", "warning"}
    assert found["database"]["detail"].startswith("sqlite at revision 0")
    assert found["bundled weights"]["status"] == "ok"
    assert "no GPU" in found["torch"]["detail"]


def test_no_service_is_no_failure(run: Run, settings: Settings) -> None:
    found = run("--url", "http://127.0.0.1:9", "doctor")
    assert found.status == 0
    assert "no answer from http://127.0.0.1:9" in found.out
    assert "synesthesia serve" in found.out


def test_nothing_is_made_by_looking(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.settings import get_settings

    monkeypatch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path / "new"))
    get_settings.cache_clear()
    assert checks(run)["database"]["detail"] == "SQLite, made at the first start"
    get_settings.cache_clear()
    assert not (tmp_path / "new").exists()


def test_a_broken_torch_is_told(remote: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_TORCH", "raise ImportError('libcudart.so: cannot open')")
    found = checks(remote, status=1)
    assert found["torch"]["status"] == "missing"
    assert "libcudart" in found["torch"]["detail"]


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_TORCH", TORCH % "['H100']")
    assert examining._torch() == Finding("torch", "ok", "2.11, GPU: H100")
    monkeypatch.setattr(examining, "_TORCH", TORCH % "[]")
    monkeypatch.setattr(examining.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert examining._torch().status == "warning"


def test_a_full_disk_is_missing_room(change_setting: Callable[..., Settings]) -> None:
    assert examining._disk(change_setting(min_free_fraction=0.9999)).status == "missing"


def test_damaged_weights_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.bundled.WEIGHTS", tmp_path / "none")
    assert examining._weights().detail == "not there"
    (tmp_path / "none").write_bytes(b"x")
    assert examining._weights().status == "missing"


def test_a_database_that_does_not_answer(change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.conftest import forget
    from worker.settings import get_settings

    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/no/such/folder.db")
    forget()
    found = examining._database(get_settings())
    assert (found.status, "unable to open" in found.detail) == ("missing", True)


def test_what_one_look_meets_does_not_end_the_others(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Finding:
        raise OSError("broken")

    monkeypatch.setattr(examining, "_program", fail)
    found = list(examining.examined(settings, examining.Target("http://127.0.0.1:9")))
    assert found[0] == Finding("program", "missing", "OSError: broken")
    assert len(found) == 11
