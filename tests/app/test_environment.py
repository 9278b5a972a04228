import os
from pathlib import Path

import pytest

from app.environment import environment_without_settings, export_options


def test_only_options_that_were_given_become_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOST", "PORT", "DATA_DIR"):
        monkeypatch.setenv(f"SYNESTHESIA_{name}", "before")  # restored afterwards
    monkeypatch.chdir(tmp_path)
    export_options(port=0, data_dir=Path("data"))
    assert os.environ["SYNESTHESIA_HOST"] == "before"
    assert os.environ["SYNESTHESIA_PORT"] == "0"
    assert os.environ["SYNESTHESIA_DATA_DIR"] == str(tmp_path / "data")


def test_a_service_that_stands_alone_inherits_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SYNESTHESIA_API_KEY", "DATABASE_URL", "REDIS_URL", "BLOB_URL"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PATH_LIKE", "kept")
    found = environment_without_settings()
    assert found["PATH_LIKE"] == "kept"
    assert not [name for name in found if name.startswith("SYNESTHESIA_") or name in ("DATABASE_URL", "REDIS_URL", "BLOB_URL")]
