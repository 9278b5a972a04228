"""`python -m worker.generator`: draws one dataset of pictures by formula, then exits. Told by a GenerateOrder on standard input.

It leaves a complete folder at `order.staging` and reports a result, or reports a failure and leaves nothing. The processes that draw see
nothing from outside but checked numbers: they may answer in Python's own way, unlike those of worker/decoder_pool.py.
"""

import contextlib
import functools
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from models.dataset import Items
from models.formula.generator import FormulaConfig, draw_label, label_name
from models.splits import assign_splits
from worker.decoding import Decoded, digest_of
from worker.layouts import Placement
from worker.orders import GenerateOrder
from worker.packing import Progress, carry_out, pack
from worker.processes import die_with_parent, processors
from worker.reports import Reporter
from worker.verdicts import Ledger

MAX_PROCESSES = 8  # beyond that the one process that writes is what takes the time
MEMORY_BYTES = 2 * 2**30  # that all drawing processes together may take
_PIXEL_BYTES = 110  # that drawing takes a pixel of a label: floats of several steps stand side by side (measured, the hungriest family)


def main() -> int:
    """Carry out the order on standard input; return the exit status."""
    return carry_out(GenerateOrder, generate)


def generate(order: GenerateOrder, report: Reporter) -> dict[str, Any]:
    """Pack the pictures of `order.config` into `order.staging`; return modality, summary and last progress.

    The same config gives the same bytes, whatever the number of processes. Raises StorageFullError on a full disk.
    """
    progress = Progress(report)
    fill = functools.partial(_fill, order=order, progress=progress)
    return pack(order.staging, "image", fill, progress, sample_rate=None, warnings=[])


def _fill(ledger: Ledger, *, order: GenerateOrder, progress: Progress) -> None:
    """Draw label after label. Each is split for itself, so that its items stay where they are whatever other labels there are."""
    config = order.config
    count = config.items_per_label
    progress.enter("drawing", config.labels * count)
    with contextlib.closing(_drawn(config, _processes(order))) as labels:
        for number, pictures in enumerate(labels):
            name = label_name(config, number)
            splits = assign_splits([0] * count, [-1] * count, [None] * count, seed=number)
            for index, (picture, split) in enumerate(zip(pictures, splits, strict=True)):
                ledger.take(f"{name}/{index:06d}", Placement(name, split), _as_decoded(picture))
            progress.step(count)


def _drawn(config: FormulaConfig, processes: int) -> Generator[Items, None, None]:
    """Yield the pictures of each label, shape (items_per_label, side, side, 3), in order; one label a process is drawn ahead."""
    ahead: deque[Future[Items]] = deque()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), die_with_parent, (os.getpid(),)) as pool:
        try:
            for label in range(config.labels):
                ahead.append(pool.submit(draw_label, config, label))
                if len(ahead) > processes:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for process in multiprocessing.active_children() if ahead else ():  # left early: nobody waits for what they draw
                process.kill()


def _processes(order: GenerateOrder) -> int:
    """Return how many processes draw: as many as may, as far as memory goes."""
    config = order.config
    label_bytes = config.items_per_label * config.image_size**2 * _PIXEL_BYTES
    return max(1, min(MAX_PROCESSES, order.processes or processors(), config.labels, MEMORY_BYTES // label_bytes))


def _as_decoded(picture: Items) -> Decoded:
    height, width, _ = picture.shape
    # Colorless ones are never mirrored unless asked for: a word played backwards is another word.
    grey = bool((picture[..., :1] == picture).all())
    return Decoded(item=picture, content=digest_of(picture), width=width, height=height, grey=grey)


if __name__ == "__main__":
    sys.exit(main())
