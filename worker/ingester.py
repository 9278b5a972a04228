"""`python -m worker.ingester`: reads one archive into a packed dataset, then exits. Told by an IngestOrder on standard input.

It leaves a complete folder at `order.staging` and reports a result, or reports a failure and leaves nothing. Asked to stop (SIGTERM) it
throws away what it has: reading again is cheaper than a way to go on from the middle.
"""

import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import FrameType
from typing import NoReturn

from models.audio import AudioLimits
from models.config import Modality
from models.dataset import PackedDataset, PackedWriter
from models.errors import DatasetError, SynesthesiaError
from models.images import ImageLimits
from worker.archive_rules import Archive, ArchiveLimits, Content
from worker.archives import open_archive
from worker.decoder_pool import MAX_PROCESSES, DecoderPool
from worker.decoding import DecodeRules, count_modalities, decode_file
from worker.items import write_items
from worker.layouts import Layout, Placement, plan_layout
from worker.orders import IngestOrder
from worker.processes import die_with_parent
from worker.reports import FAILED_EXIT, RELEASED_EXIT, RESULT_EXIT, Reporter, claim_stdout
from worker.storage import make_durable, storage_errors
from worker.summaries import describe, summarize
from worker.verdicts import Ledger

_REPORT_SECONDS = 0.25
_SNIFFED = 512  # files whose first bytes tell the modality of all


def main() -> int:
    """Carry out the order on standard input; return the exit status."""
    report = claim_stdout()
    signal.signal(signal.SIGTERM, _release)
    order = IngestOrder.model_validate_json(sys.stdin.buffer.read())
    die_with_parent(order.parent_pid)
    done = False
    try:
        result = ingest(order, report)
        done = True
    except SynesthesiaError as error:
        report("failed", code=error.code, message=error.message, param=error.param)
        return FAILED_EXIT
    finally:
        if not done:
            shutil.rmtree(order.staging, ignore_errors=True)
    report("result", **result)
    return RESULT_EXIT


def ingest(order: IngestOrder, report: Reporter) -> dict[str, object]:
    """Pack the archive into `order.staging`; return modality, summary and last progress.

    Raises DatasetError for what makes the dataset unusable, StorageFullError on a full disk.
    """
    progress = Progress(report)
    progress.enter("opening")
    archive = open_archive(order.archive, order.upload_format, _archive_limits(order))
    layout = plan_layout(archive, order.max_members)
    parent = PackedDataset.open(order.parent_directory) if order.parent_directory else None
    modality = _modality(order, archive, parent)
    with storage_errors("the packed dataset"):
        order.staging.mkdir(parents=True)
        with PackedWriter(order.staging, modality, sample_rate=order.sample_rate if modality == "audio" else None) as writer:
            ledger = Ledger(writer)
            if parent is not None:
                ledger.inherit(parent)
            _read(order, archive, layout, modality, ledger, progress)
            progress.enter("writing")
            described = describe(ledger.items, ledger.inherited)
            summary = summarize(ledger.items, modality, ledger.findings, layout.warnings)
            writer.finish(**vars(described), summary=summary)
        write_items(order.staging, ledger.items)
        make_durable(order.staging)
    return {"modality": modality, "summary": summary, "progress": progress.finished()}


class Progress:
    """Says how far reading has come, at most four times a second."""

    def __init__(self, report: Reporter) -> None:
        """Nothing is reported yet."""
        self._report = report
        self._phase, self._done, self._total = "opening", 0, 0
        self._began = self._said_at = time.monotonic()

    def enter(self, phase: str, total: int | None = None) -> None:
        """Begin a phase; `total` files are to be read in this and all later ones."""
        if total is not None:
            self._total, self._began = total, time.monotonic()
        self._phase = phase
        self._say()

    def step(self) -> None:
        """Count one file."""
        self._done += 1
        if time.monotonic() - self._said_at >= _REPORT_SECONDS:
            self._say()

    def finished(self) -> dict[str, object]:
        """Return the progress of a dataset that is ready."""
        return {"phase": "done", "done": self._done, "total": self._total, "fraction": 1.0, "eta_seconds": 0.0}

    def _say(self) -> None:
        self._said_at = time.monotonic()
        spent = self._said_at - self._began
        self._report(
            "progress",
            phase=self._phase,
            done=self._done,
            total=self._total,
            fraction=round(self._done / max(1, self._total), 4),
            eta_seconds=round(spent / self._done * (self._total - self._done), 1) if self._done else None,
        )


def _read(order: IngestOrder, archive: Archive, layout: Layout, modality: Modality, ledger: Ledger, progress: Progress) -> None:
    """Decode every file that has a place, and write down what became of each."""
    progress.enter("reading", len(layout.placements))
    decode = functools.partial(decode_file, rules=_decode_rules(order, modality))
    processes = min(MAX_PROCESSES, order.processes or _processors())
    with DecoderPool(decode, processes) as pool:
        for member, decoded in pool.decode(_placed(archive.contents(), layout.placements)):
            ledger.take(member.name, layout.placements[member.name], decoded)
            progress.step()
    for name, placement in layout.missing.items():
        ledger.miss(name, placement)


def _placed(contents: Iterable[Content], placements: dict[str, Placement]) -> Iterator[Content]:
    """Leave out metadata files, and the bytes of files that have no place."""
    for content in contents:
        placement = placements.get(content.member.name)
        if placement is None:
            continue
        yield content if placement.reason is None else replace(content, data=b"", reason=placement.reason)


def _modality(order: IngestOrder, archive: Archive, parent: PackedDataset | None) -> Modality:
    """Return the asked-for modality, the parent's, or what most files are."""
    if parent is not None:
        _check_parent(order, parent)
        return parent.modality
    if order.modality is not None:
        return order.modality
    counts = count_modalities(archive.heads(_SNIFFED))
    if not any(counts.values()):
        raise DatasetError("the archive holds no sound and no picture that is read here", code="dataset_empty")
    if counts["audio"] == counts["image"]:
        raise DatasetError("half of the files are sounds and half are pictures", code="modality_ambiguous", hint="say which by `modality`")
    return "audio" if counts["audio"] > counts["image"] else "image"


def _check_parent(order: IngestOrder, parent: PackedDataset) -> None:
    if order.modality not in (None, parent.modality):
        raise DatasetError(f"the parent holds {parent.modality}, not {order.modality}", code="modality_mismatch", param="modality")
    if parent.modality == "audio" and parent.sample_rate != order.sample_rate:
        raise DatasetError(
            f"the parent's sounds are stored at {parent.sample_rate} Hz, new ones at {order.sample_rate}", code="parent_incompatible",
            param="parent",
        )  # fmt: skip


def _archive_limits(order: IngestOrder) -> ArchiveLimits:
    return ArchiveLimits(order.max_members, order.max_expanded_bytes, order.max_member_bytes, order.max_archive_ratio)


def _decode_rules(order: IngestOrder, modality: Modality) -> DecodeRules:
    sounds = AudioLimits(max_bytes=order.max_sound_bytes, max_seconds=order.max_sound_seconds)
    pictures = ImageLimits(order.max_image_bytes, order.max_image_pixels, order.max_image_side)
    return DecodeRules(modality, order.sample_rate, order.image_side, sounds, pictures)


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _release(_number: int, _frame: FrameType | None) -> NoReturn:
    """Leave by way of every `finally`: processes are ended and the staging folder goes."""
    raise SystemExit(RELEASED_EXIT)


if __name__ == "__main__":
    sys.exit(main())
