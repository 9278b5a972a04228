"""A child that trains nothing: it speaks the protocol of worker/reports.py, counts steps, and dies, hangs or fails where it is told to.

Its checkpoint is a file that holds a step. Every step that it makes is added to a trace, which outlives the job's folder.
"""

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[2]))  # started without site-packages, which makes it quick

from worker.reports import FAILED_EXIT, RELEASED_EXIT, RESULT_EXIT, Reporter, claim_stdout

_wishes: set[int] = set()


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _wish)
    report = claim_stdout()
    order = json.loads(sys.stdin.read())
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # as worker.processes does, whose imports would take longer than the job
    plan = {"steps": "5", "pace": "0.02", "save_every": "1", "at": "2", **order["plan"]}
    checkpoint = Path(order["folder"]) / "step"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    while step < int(plan["steps"]) and signal.SIGUSR1 not in _wishes:
        if signal.SIGTERM in _wishes:
            _save(report, checkpoint, step)
            return RELEASED_EXIT
        time.sleep(float(plan["pace"]))
        step += 1
        with Path(order["trace"]).open("a") as trace:
            trace.write(f"{order['token']} {step}\n")
        report("progress", step=step, steps=int(plan["steps"]), phase="training")
        if step == int(plan["at"]):
            _misbehave(plan.get("child", ""), report)
        if step % int(plan["save_every"]) == 0:
            _save(report, checkpoint, step)
    if "finish" in plan:
        report("progress", step=step, steps=int(plan["steps"]), phase="evaluating")
        time.sleep(float(plan["finish"]))
    report("result", step=step, cancelled=signal.SIGUSR1 in _wishes)
    return RESULT_EXIT


def _save(report: Reporter, checkpoint: Path, step: int) -> None:
    draft = checkpoint.with_suffix(f".{os.getpid()}")  # a stale child may be writing as well
    draft.write_text(str(step))
    draft.replace(checkpoint)
    report("checkpoint", step=step)


def _misbehave(how: str, report: Reporter) -> None:
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "crashes":
        ctypes.string_at(0)
    if how == "hangs":
        time.sleep(1000)
    if how == "deaf":  # to SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if how == "babbles":
        os.write(2, b"to the log\n")
        sys.stdout.write("a library prints\n")
    if how == "no_memory":
        report("failed", code="out_of_memory", message="out of memory; a smaller batch_size needs less")
        sys.exit(FAILED_EXIT)


def _wish(number: int, _frame: FrameType | None) -> None:
    _wishes.add(number)


if __name__ == "__main__":
    sys.exit(main())
