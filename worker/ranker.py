"""`python -m worker.ranker`: the process that imports torch, ranks the sources of one job, and exits. Its order comes on standard input.

Asked to stop, by either of the signals that end a trainer, it ends at the next batch with RELEASED_EXIT.
"""

import sys

from models.errors import Interrupted, SynesthesiaError
from worker.logs import configure_logging
from worker.orders import RankingOrder
from worker.processes import die_with_parent, step_back
from worker.reports import FAILED_EXIT, RELEASED_EXIT, RESULT_EXIT, Reporter, claim_stdout
from worker.trainer import Wishes


def main() -> None:
    """Rank as ordered; the exit status and the last report line tell how it ended."""
    wishes = Wishes()  # before anything that takes time: an early signal must not kill
    report = claim_stdout()
    order = RankingOrder.model_validate_json(sys.stdin.buffer.read())
    die_with_parent(order.parent_pid)
    step_back()
    configure_logging("info")
    sys.exit(_run(order, report, wishes))


def _run(order: RankingOrder, report: Reporter, wishes: Wishes) -> int:
    try:
        # Here, not above: a process that was asked to stop while torch was imported does not begin.
        from worker.ranking import RankingRun  # noqa: PLC0415

        result = RankingRun(order, report, wishes).run()
    except Interrupted:
        return RELEASED_EXIT
    except SynesthesiaError as error:
        report("failed", code=error.code, message=error.message, param=error.param)
        return FAILED_EXIT
    report("result", **result)
    return RESULT_EXIT


if __name__ == "__main__":
    main()
