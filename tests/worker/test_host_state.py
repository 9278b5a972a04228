"""What an operator is told of queue, disk and GPUs."""

from pathlib import Path

import pytest

from tests.rig import add_job, change_row, forget_messages
from worker.disk import is_scarce, room
from worker.host_state import Gpu, gpus, observe
from worker.lease import claim
from worker.owners import View, seen_by
from worker.settings import Settings


def test_a_new_service_has_nothing_to_tell(settings: Settings) -> None:
    state = observe(settings)
    assert (state.overdue, state.restarts, state.failures, state.unsent) == (0, 0, 0, 0)
    assert 0 < state.disk.free < state.disk.total


def test_jobs_of_all_owners_count(settings: Settings) -> None:
    late, again, waiting = add_job(), add_job(), add_job()
    claim(late, "gone:1")
    change_row(late, lease_until=1.0, failures=2)
    claim(again, "here:1")
    change_row(again, token=4)
    with seen_by(View("somebody", sees_all=False)):
        state = observe(settings)
    assert (state.overdue, state.restarts, state.failures, state.unsent) == (1, 3, 2, 3)
    forget_messages()
    change_row(late, state="failed")
    del waiting
    assert (observe(settings).overdue, observe(settings).unsent) == (0, 0)


def test_a_folder_that_is_not_there_yet_counts_with_its_disk(tmp_path: Path) -> None:
    assert 0.0 < room(Settings(data_dir=tmp_path / "a" / "b")).share < 1.0


@pytest.mark.parametrize(("kept", "scarce"), [(0.0, False), (1.0, True)])
def test_room_is_scarce_below_a_share(tmp_path: Path, kept: float, scarce: bool) -> None:
    assert is_scarce(Settings(data_dir=tmp_path, collect_free_fraction=kept)) is scarce


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo '0, 1024, 81559'; echo '1, 3, 40960'", (Gpu("0", 2**30, 81559 * 2**20), Gpu("1", 3 * 2**20, 40 * 2**30))),
        ("echo '0, [N/A], [N/A]'", ()),
        ("echo 'no devices were found'", ()),
        ("exit 9", ()),
    ],
)
def test_gpus_are_as_the_tool_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: tuple[Gpu, ...]) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpus() == found


def test_a_machine_without_the_tool_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ()
