"""A real worker process whose jobs are fake children, so that what is tested is everything but training.

`python tests/faults/fake_worker.py --queues train`, as worker.celery_app; with `--job ID` it supervises that one job, without Celery.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import worker.work
from worker.database import Job, write
from worker.lease import add_status, close
from worker.settings import get_settings
from worker.work import Start, Work

_CHILD = Path(__file__).with_name("fake_child.py")


def trace_path(job_id: str) -> Path:
    folder = get_settings().data_dir / "traces"
    folder.mkdir(exist_ok=True)
    return folder / job_id


def steps_made(job_id: str) -> list[tuple[int, int]]:
    """(token, step) of every step that any child of the job made, in order."""
    lines = trace_path(job_id).read_text().splitlines() if trace_path(job_id).exists() else []
    return [(int(token), int(step)) for token, step in (line.split() for line in lines)]


def _start(job: Job, folder: Path) -> Start:
    order = {
        "folder": str(folder), "token": job.token, "plan": job.meta, "trace": str(trace_path(job.id)),
    }  # fmt: skip
    return Start([sys.executable, "-S", "-E", str(_CHILD)], json.dumps(order).encode())


def _succeed(job: Job, _folder: Path, result: dict[str, Any]) -> bool:
    state = "cancelled" if result["cancelled"] else "succeeded"
    with write() as session:
        if not close(session, job.id, job.token, state, metrics={"steps": result["step"]}):
            session.rollback()
            return False
        add_status(session, job.id, state, state)
    return True


def _lose(*_: object) -> None:
    pass


FAKE = Work(_start, _succeed, _lose, worker.work.WORK["finetune"].parse)


def _start_nothing(_job: Job, _folder: Path) -> Start:
    return Start(["/bin/echo", json.dumps({"kind": "result", "step": 0, "cancelled": False})])


IDLE = Work(_start_nothing, _succeed, _lose)


def install() -> None:
    fake = IDLE if os.environ.get("FAULTS_CHILD") == "nothing" else FAKE
    worker.work.WORK.update(finetune=fake, pretrain=fake)
    if os.environ.get("FAULTS_VERSION") == "next":  # it knows a type more, and fields that are unknown here
        newer = Work(_start, _succeed, _lose)
        worker.work.WORK.update(invented=newer, finetune=newer)


if __name__ == "__main__":
    install()
    if sys.argv[1] == "--job":
        from worker.supervisor import supervise

        supervise(sys.argv[2])
    else:
        from worker.celery_app import main

        main()
