"""What becomes of each file, as it is decoded: accepted, suspect (kept, with a reason) or rejected; and what is packed of it."""

from dataclasses import dataclass, field

from models.dataset import PackedDataset, PackedWriter
from worker.decoding import Decoded
from worker.items import ITEMS_FILE, Item, packed_items
from worker.layouts import Placement
from worker.likeness import Stored, near_duplicates

LABEL_CONFLICT = "label_conflict"
NEAR_DUPLICATE = "near_duplicate"


@dataclass
class Findings:
    """What concerns the dataset rather than one file."""

    all_grey: bool = True
    """no picture with a colour has been packed"""
    leaks: int = 0
    """duplicates that had been declared for another split"""
    near: list[tuple[Item, Item]] = field(default_factory=list)
    """(later, earlier) items that are nearly the same; only once all splits are settled can one tell whether that leaks"""


class Ledger:
    """The items of a dataset in the order in which they came, and the packed file that grows with them."""

    def __init__(self, writer: PackedWriter) -> None:
        """`writer` is open and empty."""
        self._writer = writer
        self._by_content: dict[bytes, list[Item]] = {}
        self.items: list[Item] = []
        self.findings = Findings()
        self.inherited = 0  # so many of the packed items come from the parent, before all others

    def inherit(self, parent: PackedDataset) -> None:
        """Take over a dataset's packed items, as they are stored, with their splits."""
        for item in packed_items(parent.directory / ITEMS_FILE):
            assert item.position is not None
            self._pack(item, Decoded(item=parent.item(item.position), content=item.content, grey=parent.grey))
            self._by_content.setdefault(item.content, []).append(item)
            self.items.append(item)
            self.inherited += 1

    def take(self, file_name: str, placement: Placement, decoded: Decoded) -> None:
        """Judge one file and pack it unless it is rejected."""
        item = Item(
            file_name, placement.label, placement.split, placement.group, "accepted",
            duration=decoded.duration, width=decoded.width, height=decoded.height, content=decoded.content,
        )  # fmt: skip
        self.items.append(item)
        if decoded.reason is not None:
            item.status, item.reasons = "rejected", [decoded.reason]
            return
        for remark in decoded.remarks:
            _suspect(item, remark)
        if not self._is_duplicate(item):
            self._pack(item, decoded)

    def miss(self, file_name: str, placement: Placement) -> None:
        """Note a file of which only the metadata knows."""
        reasons = [placement.reason or "missing_from_archive"]
        self.items.append(Item(file_name, placement.label, placement.split, placement.group, "rejected", reasons))

    def compare(self) -> None:
        """Mark packed items that are nearly the same as an earlier one. They are kept: who takes them for the same may be wrong."""
        stored = Stored(self._writer.modality, *self._writer.stored(), self._writer.sample_rate)
        at = {item.position: item for item in self.items if item.position is not None}
        for later, earlier in near_duplicates(stored):
            item, twin = at[later], at[earlier]
            if item.content == twin.content:  # the label conflict has been told
                continue
            _suspect(item, NEAR_DUPLICATE)
            item.duplicate_of = item.duplicate_of or twin.file_name
            self.findings.near.append((item, twin))

    def _is_duplicate(self, item: Item) -> bool:
        """Reject an item that came before under the same label; under another label, who can say which is right: both are suspect."""
        twins = self._by_content.setdefault(item.content, [])
        same = next((twin for twin in twins if twin.label == item.label), None)
        if same is not None:
            self.findings.leaks += int(None not in (same.split, item.split) and same.split != item.split)
            item.status, item.reasons, item.duplicate_of = "rejected", ["duplicate"], same.file_name
            return True
        for twin in twins:
            _suspect(twin, LABEL_CONFLICT)
            _suspect(item, LABEL_CONFLICT)
            item.duplicate_of = twin.file_name
        twins.append(item)
        return False

    def _pack(self, item: Item, decoded: Decoded) -> None:
        assert decoded.item is not None
        item.position = self._writer.append(decoded.item)
        self.findings.all_grey &= decoded.grey


def _suspect(item: Item, reason: str) -> None:
    item.status = "suspect"
    if reason not in item.reasons:
        item.reasons.append(reason)
