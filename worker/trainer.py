"""`python -m worker.trainer`: the process that imports torch, trains one job, and exits. Its order comes on standard input.

SIGTERM: write a checkpoint and exit with RELEASED_EXIT. SIGUSR1: stop training, and make the best weights so far the job's model.
"""

import gc
import signal
import sys
from types import FrameType

from models.errors import Interrupted, SynesthesiaError
from worker.logs import configure_logging
from worker.orders import TrainingOrder
from worker.processes import die_with_parent, step_back
from worker.reports import FAILED_EXIT, RELEASED_EXIT, RESULT_EXIT, Reporter, claim_stdout


class Wishes:
    """What the supervisor wants, set by signals."""

    def __init__(self) -> None:
        """Handlers are installed at once. Main thread only."""
        self.release = False
        self.finish = False
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGUSR1, self._on_signal)

    @property
    def stop(self) -> bool:
        """Whether training should stop at the next step."""
        return self.release or self.finish

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.release = True
        else:
            self.finish = True


def main() -> None:
    """Train as ordered; the exit status and the last report line tell how it ended."""
    wishes = Wishes()  # before anything that takes time: an early signal must not kill
    report = claim_stdout()
    order = TrainingOrder.model_validate_json(sys.stdin.buffer.read())
    die_with_parent(order.parent_pid)
    step_back()
    configure_logging("info")
    sys.exit(_run(order, report, wishes))


def _run(order: TrainingOrder, report: Reporter, wishes: Wishes) -> int:
    try:
        gc.disable()  # it would walk a growing heap time and again, and find nothing: a tenth of a second
        # Here, not above: a process that was asked to stop while torch was imported does not begin.
        from worker.training_run import TrainingRun  # noqa: PLC0415

        gc.freeze()
        gc.enable()
        result = TrainingRun(order, report, wishes).run()
    except Interrupted:
        return RELEASED_EXIT
    except SynesthesiaError as error:
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        report("failed", code=error.code, message=message, param=error.param)
        return FAILED_EXIT
    report("result", **result)
    return RESULT_EXIT


if __name__ == "__main__":
    main()
