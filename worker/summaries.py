"""From judged items to a dataset: splits, the checks that it can be trained on, and the summary that people see."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from models.config import SPLITS, Modality, Split
from models.errors import DatasetError
from models.splits import assign_splits
from worker.items import Item
from worker.verdicts import LABEL_CONFLICT, NEAR_DUPLICATE, Findings

MIN_LABELS = 2
FEW_ITEMS = 2
_NAMED = 10  # so many names stand in one message


@dataclass(frozen=True)
class Described:
    """What PackedWriter.finish needs of the packed items, in their order."""

    labels: list[str]
    item_labels: list[int]
    item_splits: list[Split]
    item_groups: list[int]
    group_names: list[str]


def describe(items: list[Item], inherited: int) -> Described:
    """Assign splits (written into the items too) and number labels and groups; the first `inherited` packed items keep their splits.

    Raises DatasetError: dataset_empty, label_empty, too_few_labels, train_empty.
    """
    packed = [item for item in items if item.position is not None]
    labels = _checked_labels(items, packed)
    groups = sorted({item.group for item in packed if item.group is not None})
    label_index = {label: index for index, label in enumerate(labels)}
    group_index = {group: index for index, group in enumerate(groups)}
    item_labels = [label_index[item.label or ""] for item in packed]
    item_groups = [group_index[item.group] if item.group is not None else -1 for item in packed]
    splits = _assign(packed, item_labels, item_groups, inherited)
    for item, split in zip(packed, splits, strict=True):
        item.split = split
    if "train" not in splits:
        raise DatasetError("every item is declared for validation or test: there is none to train on", code="train_empty")
    return Described(labels, item_labels, splits, item_groups, groups)


def summarize(items: list[Item], modality: Modality, findings: Findings, warnings: list[dict[str, str]]) -> dict[str, Any]:
    """Return what `GET /datasets/{id}` shows of a ready dataset; `warnings` are those known before."""
    packed = [item for item in items if item.position is not None]
    per_label: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for item in packed:
        per_label[item.label or ""][item.split or "train"] += 1
    counts = Counter(item.split for item in packed)
    return {
        "labels": sorted(per_label),
        "items": len(packed),
        "rejected": len(items) - len(packed),
        "splits": {split: counts[split] for split in SPLITS},
        "groups": len({item.group for item in packed if item.group is not None}),
        "per_label": dict(sorted(per_label.items())),
        "duration_seconds": round(sum(item.duration or 0.0 for item in packed), 3) if modality == "audio" else None,
        "grey": modality == "image" and findings.all_grey,
        "warnings": [*warnings, *_warnings(items, packed, per_label, findings)],
    }


def _checked_labels(items: list[Item], packed: list[Item]) -> list[str]:
    if not packed:
        raise DatasetError(f"no file of the archive can be used: {_most_common_reasons(items)}", code="dataset_empty")
    labels = sorted({item.label or "" for item in packed})
    empty = sorted({item.label for item in items if item.label is not None} - set(labels))
    if empty:
        of_label = [item for item in items if item.label == empty[0]]
        others = f"; {len(empty) - 1} more labels have none either" if len(empty) > 1 else ""
        raise DatasetError(
            f"label {empty[0]!r} has no item that can be used: {_most_common_reasons(of_label)}{others}", code="label_empty", param=empty[0]
        )
    if len(labels) < MIN_LABELS:
        raise DatasetError(f"all items have the label {labels[0]!r}; at least {MIN_LABELS} labels are needed", code="too_few_labels")
    return labels


def _most_common_reasons(items: list[Item]) -> str:
    """Return the three most common reasons, each with its count and one file."""
    counts = Counter(reason for item in items for reason in item.reasons)
    examples = {reason: item.file_name for item in reversed(items) for reason in item.reasons}
    return ", ".join(f"{count} × {reason} (as {examples[reason]!r})" for reason, count in counts.most_common(3)) or "it holds none"


def _assign(packed: list[Item], item_labels: list[int], item_groups: list[int], inherited: int) -> list[Split]:
    """Return the split of each packed item. A group of the parent stays on the side where it is, so that no voice is on both."""
    result: list[Split | None] = [item.split for item in packed[:inherited]] + [None] * (len(packed) - inherited)
    side_of = {item.group: item.split for item in packed[:inherited] if item.group is not None}
    rest = []
    for index in range(inherited, len(packed)):
        item = packed[index]
        result[index] = item.split or (side_of.get(item.group) if item.group is not None else None)
        if result[index] is None or not inherited:
            rest.append(index)
    declared = [packed[index].split for index in rest]
    if inherited and any(item.split is not None for item in packed[inherited:]):
        declared = [split or "train" for split in declared]  # the new archive says which items measure: the others train
    cut = assign_splits([item_labels[index] for index in rest], [item_groups[index] for index in rest], declared)
    for index, split in zip(rest, cut, strict=True):
        result[index] = split
    return [split or "train" for split in result]


def _warnings(items: list[Item], packed: list[Item], per_label: dict[str, dict[str, int]], findings: Findings) -> list[dict[str, str]]:
    few = [label for label, counts in per_label.items() if sum(counts.values()) <= FEW_ITEMS]
    untrained = [label for label, counts in per_label.items() if not counts["train"]]
    spellings = Counter(label.casefold() for label in per_label)
    alike = [label for label in per_label if spellings[label.casefold()] > 1]
    conflicts = sum(LABEL_CONFLICT in item.reasons for item in items)
    shared = _groups_across(packed)
    alike_across = [later.file_name for later, earlier in findings.near if later.split != earlier.split]
    found = (
        ("label_few_items", few, f"labels with one or two items can't be measured: {_named(few)}"),
        ("label_untrained", untrained, f"labels without training items can't be learnt: {_named(untrained)}"),
        ("labels_alike", alike, f"labels that differ in capital letters only: {_named(alike)}"),
        (LABEL_CONFLICT, conflicts, f"{conflicts} items hold the same as an item of another label; they are kept as suspect"),
        ("split_leak", findings.leaks, f"{findings.leaks} items were declared for two splits; each stays in the one where it came first"),
        (
            NEAR_DUPLICATE,
            alike_across,
            f"{len(alike_across)} items are nearly the same as one of another split, which flatters the measures: {_named(alike_across)}",
        ),
        ("group_leak", shared, f"groups in training and in measuring splits, by declaration or for want of groups: {_named(shared)}"),
    )
    return [{"code": code, "message": message} for code, applies, message in found if applies]


def _groups_across(packed: list[Item]) -> list[str]:
    sides: dict[str, set[bool]] = defaultdict(set)
    for item in packed:
        if item.group is not None:
            sides[item.group].add(item.split == "train")
    return sorted(group for group, found in sides.items() if len(found) > 1)


def _named(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name) for name in sorted(names)[:_NAMED]) + rest
