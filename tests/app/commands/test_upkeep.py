"""`synesthesia backup`, `restore` and `gc` as they are typed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.app.commands.conftest import Run
from tests.conftest import forget
from tests.rig import add_dataset
from worker import collector
from worker.database import new_id
from worker.settings import Settings
from worker.storage import get_storage, new_scratch


def stray(settings: Settings, *, old: bool) -> str:
    """A blob that no row names."""
    folder = new_scratch("made")
    (folder / "model.onnx").write_bytes(b"half")
    key = get_storage().publish_directory(folder, f"artifacts/{new_id('mdl')}")
    if old:
        for path in (settings.data_dir / "blobs" / key / "model.onnx", settings.data_dir / "blobs" / key):
            os.utime(path, (1.0, 1.0))
    return key


def test_a_dry_run_lists_and_removes_nothing(run: Run, settings: Settings) -> None:
    add_dataset()
    old, young = stray(settings, old=True), stray(settings, old=False)
    outcome = run("gc", "--dry-run", "--json")
    assert outcome.status == 0, outcome.err
    assert {row["key"]: row["due"] for row in json.loads(outcome.out)} == {old: True, young: False}
    assert get_storage().age(old) > 0


def test_what_is_due_goes_at_once(run: Run, settings: Settings) -> None:
    add_dataset()
    old, young = stray(settings, old=True), stray(settings, old=False)
    assert [row.key for row in collector.collect(settings, pause=0.0)] == [old]
    assert [row.key for row in collector.strays(settings)] == [young]
    outcome = run("gc", "--json")
    assert (outcome.status, json.loads(outcome.out)) == (0, [])


def test_a_full_disk_is_cleared_at_once(change_setting: Callable[..., Settings]) -> None:
    settings = change_setting(collect_free_fraction=1.0)
    add_dataset()
    strays = [stray(settings, old=True) for _ in range(25)]
    collector.Collector(settings).sweep()
    assert collector.strays(settings) == []
    assert len(strays) > 20, "more than one ordinary sweep removes"


def test_backup_and_restore(run: Run, settings: Settings, tmp_path: Path) -> None:
    add_dataset()
    outcome = run("backup", str(tmp_path / "a.tar"), "--json")
    assert (outcome.status, json.loads(outcome.out)["lost"]) == (0, {})
    assert run("backup", str(tmp_path / "a.tar")).status == 1, "nothing is overwritten"
    forget()
    refused = run("restore", str(tmp_path / "a.tar"))
    assert refused.status == 1
    assert "--force" in refused.err
    outcome = run("restore", str(tmp_path / "a.tar"), "--force", "--json")
    assert (outcome.status, json.loads(outcome.out)["lost"]) == (0, [])


def test_no_such_backup_is_a_wrong_command_line(run: Run, settings: Settings, tmp_path: Path) -> None:
    assert run("restore", str(tmp_path / "nowhere")).status == 2
