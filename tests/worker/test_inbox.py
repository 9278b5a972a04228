"""What a child says, cut anywhere, garbled, or from a child that was fenced off."""

import json

import pytest

from tests.rig import add_job, change_row, events, row
from worker.inbox import Inbox
from worker.lease import claim
from worker.settings import Settings


@pytest.fixture
def inbox(settings: Settings) -> Inbox:
    claimed = claim(add_job(), "here:1")
    assert claimed is not None
    return Inbox(claimed.job)


def line(kind: str, **fields: object) -> bytes:
    return json.dumps({"kind": kind, **fields}).encode() + b"\n"


def test_lines_arrive_in_pieces(inbox: Inbox) -> None:
    data = line("progress", step=1) + line("progress", step=2) + line("result", model_id="mdl_1")
    for cut in range(0, len(data), 7):
        assert inbox.feed(data[cut : cut + 7])
    assert inbox.take_progress() == {"step": 2}
    assert inbox.take_progress() is None
    assert inbox.result == {"model_id": "mdl_1"}
    assert not inbox.feed(b"")


@pytest.mark.parametrize(
    "junk", [b"Downloading 5%\n", b"[1]\n", b"null\n", b"{}\n", b'{"kind": 3}\n', b'{"kind": "dance"}\n', b'{"kind": []}\n', b"\xff\xfe\n"]
)
def test_what_is_no_report_is_dropped(inbox: Inbox, junk: bytes) -> None:
    before = inbox.heard_at
    inbox.feed(junk + line("progress", step=1))
    assert inbox.take_progress() == {"step": 1}
    assert inbox.heard_at >= before
    assert not inbox.lost


def test_junk_is_no_sign_of_work(inbox: Inbox) -> None:
    before = inbox.heard_at
    inbox.feed(b"still here\n")
    assert inbox.heard_at == before


def test_a_line_without_end_is_not_kept(inbox: Inbox) -> None:
    for _ in range(18):
        inbox.feed(b"x" * 2**20)
    inbox.feed(b"\n" + line("progress", step=1))
    assert inbox.take_progress() == {"step": 1}
    # A result that is lost this way would be lost again at every start: the job has to end.
    assert inbox.failure is not None
    assert "larger than" in inbox.failure["message"]


def test_each_kind_lies_where_clients_read_it(inbox: Inbox) -> None:
    job_id = inbox._job_id
    inbox.feed(line("metrics", epoch=1, loss=0.5) + line("checkpoint", step=30, epoch=1) + line("message", message="slow", level="warning"))
    inbox.feed(line("resolved", spec={"seed": 3}) + line("failed", code="out_of_memory", message="too large"))
    found = [(event.type, event.level, event.message) for event in events(job_id)[2:]]
    assert found == [
        ("metrics", "info", "loss 0.5"),
        ("checkpoint", "info", "checkpoint at step 30"),
        ("message", "warning", "slow"),
        ("message", "info", "values resolved"),
    ]
    assert row(job_id).metrics == {"epoch": 1, "loss": 0.5}
    assert row(job_id).resolved == {"seed": 3}
    assert inbox.checkpoint_step == 30
    assert inbox.failure == {"code": "out_of_memory", "message": "too large", "param": None}


def test_a_fenced_child_stores_nothing_and_is_known_to_be_lost(inbox: Inbox) -> None:
    change_row(inbox._job_id, token=2)
    before = len(events(inbox._job_id))
    inbox.feed(line("metrics", loss=9.0))
    assert inbox.lost
    assert len(events(inbox._job_id)) == before
    assert row(inbox._job_id).metrics == {}
