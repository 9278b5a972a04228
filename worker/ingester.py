"""`python -m worker.ingester`: reads one archive into a packed dataset, then exits. Told by an IngestOrder on standard input.

It leaves a complete folder at `order.staging` and reports a result, or reports a failure and leaves nothing.
"""

import functools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from models.audio import AudioLimits
from models.config import Modality
from models.dataset import PackedDataset
from models.errors import DatasetError
from models.images import ImageLimits
from worker.archive_rules import Archive, ArchiveLimits, Content
from worker.archives import open_archive
from worker.decoder_pool import MAX_PROCESSES, DecoderPool
from worker.decoding import DecodeRules, count_modalities, decode_file
from worker.layouts import Layout, Placement, plan_layout
from worker.orders import IngestOrder
from worker.packing import Progress, carry_out, pack
from worker.processes import processors
from worker.reports import Reporter
from worker.verdicts import Ledger

_SNIFFED = 512  # files whose first bytes tell the modality of all


def main() -> int:
    """Carry out the order on standard input; return the exit status."""
    return carry_out(IngestOrder, ingest)


def ingest(order: IngestOrder, report: Reporter) -> dict[str, Any]:
    """Pack the archive into `order.staging`; return modality, summary and last progress.

    Raises DatasetError for what makes the dataset unusable, StorageFullError on a full disk.
    """
    progress = Progress(report)
    progress.enter("opening")
    archive = open_archive(order.archive, order.upload_format, _archive_limits(order))
    layout = plan_layout(archive, order.max_members)
    parent = PackedDataset.open(order.parent_directory) if order.parent_directory else None
    modality = _modality(order, archive, parent)

    def fill(ledger: Ledger) -> None:
        if parent is not None:
            ledger.inherit(parent)
        _read(order, archive, layout, modality, ledger, progress)

    sample_rate = order.sample_rate if modality == "audio" else None
    return pack(order.staging, modality, fill, progress, sample_rate=sample_rate, warnings=layout.warnings)


def _read(order: IngestOrder, archive: Archive, layout: Layout, modality: Modality, ledger: Ledger, progress: Progress) -> None:
    """Decode every file that has a place, and write down what became of each."""
    progress.enter("reading", len(layout.placements))
    decode = functools.partial(decode_file, rules=_decode_rules(order, modality))
    processes = min(MAX_PROCESSES, order.processes or processors())
    with DecoderPool(decode, processes) as pool:
        for member, decoded in pool.decode(_placed(archive.contents(), layout.placements)):
            ledger.take(member.name, layout.placements[member.name], decoded)
            progress.step()
    for name, placement in layout.missing.items():
        ledger.miss(name, placement)
    progress.enter("comparing")
    ledger.compare()


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


if __name__ == "__main__":
    sys.exit(main())
