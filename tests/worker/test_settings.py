"""Where values come from, and what follows from them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "BLOB_URL", "HF_HUB_OFFLINE", "SYNESTHESIA_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_set_means_one_folder_on_this_machine(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/synesthesia.db"
    assert settings.resolved_blob_url == f"file://{tmp_path}/blobs"
    assert settings.scratch_dir.parent == settings.lock_dir.parent == tmp_path
    assert settings.loopback


def test_paths_are_absolute_whatever_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(data_dir=Path("here"))
    assert settings.scratch_dir == tmp_path / "here" / "scratch"
    assert str(tmp_path / "here") in settings.resolved_database_url


def test_services_have_the_names_that_platforms_give(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "BLOB_URL"):
        monkeypatch.setenv(name, f"{name}://set")
    settings = Settings()
    assert (settings.resolved_database_url, settings.redis_url, settings.resolved_blob_url) == (
        "DATABASE_URL://set", "REDIS_URL://set", "BLOB_URL://set",
    )  # fmt: skip


def test_numbers_are_read_and_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHESIA_LEASE_SECONDS", "7.5")
    assert Settings().lease_seconds == 7.5
    monkeypatch.setenv("SYNESTHESIA_PORT", "eight")
    with pytest.raises(ValidationError, match="port"):
        Settings()


def test_a_key_does_not_show_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHESIA_API_KEY", "very-secret")
    assert "very-secret" not in repr(Settings())


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)])
def test_which_addresses_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert Settings(host=host).loopback == loopback


def test_a_process_reads_them_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHESIA_LEASE_SECONDS", "1")
    assert get_settings() is settings


def test_times_fit_together() -> None:
    settings = Settings()
    assert settings.heartbeat_seconds * 5 < settings.lease_seconds
    assert settings.checkpoint_seconds < settings.stop_grace_seconds < settings.lease_seconds < settings.stall_seconds
    assert settings.stop_grace_seconds < settings.finish_seconds < settings.stall_seconds
    assert settings.stray_seconds > settings.finish_seconds + settings.lease_seconds
