"""`python -m worker.quoter`: the process that imports torch, quotes one job, and exits. Its order comes on standard input.

It writes nothing but its report, so that it can be killed at any time.
"""

import sys
import time

from models.errors import SynesthesiaError
from worker.logs import configure_logging
from worker.orders import TrainingOrder
from worker.processes import die_with_parent, step_back
from worker.reports import FAILED_EXIT, RESULT_EXIT, Reporter, claim_stdout


def main() -> None:
    """Quote as ordered; the exit status and the last report line tell how it ended."""
    began = time.monotonic()
    report = claim_stdout()
    order = TrainingOrder.model_validate_json(sys.stdin.buffer.read())
    die_with_parent(order.parent_pid)
    step_back()
    configure_logging("warning")
    sys.exit(_run(order, report, began))


def _run(order: TrainingOrder, report: Reporter, began: float) -> int:
    # Here, not above: what the import takes is a part of the quote.
    from worker.probing import Probe  # noqa: PLC0415

    try:
        quote = Probe(order, began).run()
    except SynesthesiaError as error:
        report("failed", family=_family(error), code=error.code, message=error.message, param=error.param, hint=error.hint)
        return FAILED_EXIT
    report("result", **quote)
    return RESULT_EXIT


def _family(error: SynesthesiaError) -> str:
    """Return the name of the first level of the exception tree, by which the API answers."""
    return next(kind.__name__ for kind in type(error).__mro__ if SynesthesiaError in kind.__bases__ or kind is SynesthesiaError)


if __name__ == "__main__":
    main()
