"""Which items train, which choose the checkpoint, which measure: declared splits kept, missing ones cut from train.

A missing test or validation split takes about a tenth of the training items each, every label in proportion. Groups (speakers) are kept
whole: a word heard from a voice that was trained on says little about a new voice. Every draw comes from one seeded stream of raw random
numbers, so the same list gives the same splits anywhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.config import Split

Ints = np.ndarray[Any, np.dtype[np.int64]]
CUT_SHARE = 0.1
# Draws of whole groups that are compared; fewer where there are so many groups and labels that any draw is balanced.
MAX_DRAWS = 200
DRAW_BUDGET = 4_000_000


def assign_splits(labels: Sequence[int], groups: Sequence[int], declared: Sequence[Split | None], seed: int = 0) -> list[Split]:
    """Return the split of each item; `groups` holds -1 for none, `declared` None for none. All have one entry an item.

    - Declared validation and test items stay what they are; all others form the pool, which is cut where test or validation is missing.
    - Without groups each label gives a tenth of its items, at least one, to each missing split. A label with one or two items in the
      pool gives none: it can be learnt, but not measured.
    - With groups, whole groups move: at least one to each missing split, chosen so that sizes and labels come near a tenth and no label
      leaves train. Groups that alone hold a label stay in train, as do those with items declared for another split, if others are left.
    - With too few groups (two, where both splits are missing) test takes a group and validation is cut from train item by item; with one
      group, or where each choice would take a label out of train, groups can't be respected and both are cut item by item.
    - Items without a group, in a dataset that has groups, are cut item by item.
    """
    label_of, group_of = np.asarray(labels, np.int64), np.asarray(groups, np.int64)
    result: list[Split] = [split or "train" for split in declared]
    missing: list[Split] = [side for side in ("test", "validation") if side not in result]
    pool = np.array([index for index, split in enumerate(result) if split == "train"], np.int64)
    if not missing or not len(pool):
        return result
    random = np.random.Generator(np.random.PCG64(seed))
    elsewhere = {int(group_of[index]) for index, split in enumerate(result) if split != "train"}
    grouped = pool[group_of[pool] >= 0]
    by_group = _cut_groups(label_of[grouped], group_of[grouped], missing, elsewhere, random)
    for side, chosen in by_group.items():
        _assign(result, grouped[np.isin(group_of[grouped], chosen)], side)
    _assign_items(result, pool[group_of[pool] < 0], label_of, missing, random)
    left = grouped[~np.isin(group_of[grouped], np.concatenate([*by_group.values(), np.empty(0, np.int64)]))]
    _assign_items(result, left, label_of, [side for side in missing if side not in by_group], random)
    return result


def _assign(result: list[Split], indices: Ints, side: Split) -> None:
    for index in indices.tolist():
        result[index] = side


def _assign_items(result: list[Split], indices: Ints, label_of: Ints, sides: list[Split], random: np.random.Generator) -> None:
    """Give each of `sides` its share of every label among `indices`."""
    shuffled = indices[np.argsort(random.random(len(indices)), kind="stable")]
    for label in np.unique(label_of[indices]) if sides else ():
        members = shuffled[label_of[shuffled] == label]
        if len(members) < 3:
            continue
        share = max(1, round(CUT_SHARE * len(members)))
        for place, side in enumerate(sides):
            _assign(result, members[place * share : (place + 1) * share], side)


def _cut_groups(labels: Ints, groups: Ints, missing: list[Split], elsewhere: set[int], random: np.random.Generator) -> dict[Split, Ints]:
    """Return the groups that go whole to each missing split; a split that groups can't serve is left out."""
    names, group_index = np.unique(groups, return_inverse=True)
    label_names, label_index = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(label_names)), np.int64)
    np.add.at(counts, (group_index, label_index), 1)
    free = _movable(counts, names, elsewhere)
    spare = len(free) - (len(free) == len(names))
    sides = missing[: max(0, spare)]  # -1 where no item has a group
    if not sides:
        return {}
    draws = max(1, min(MAX_DRAWS, DRAW_BUDGET // counts.size))
    candidates = [_draw(counts, free, len(sides), random) for _ in range(draws)]
    best = min(candidates, key=lambda chosen: _cost(counts, chosen))
    if _labels_lost(counts, best):
        return {}
    return {side: names[rows] for side, rows in zip(sides, best, strict=True)}


def _movable(counts: Ints, names: Ints, elsewhere: set[int]) -> Ints:
    """Return the rows of groups that may leave train."""
    indispensable = (counts == counts.sum(axis=0)).any(axis=1, where=counts > 0)
    free = np.flatnonzero(~indispensable)
    apart = np.array([row for row in free.tolist() if int(names[row]) not in elsewhere], np.int64)
    return apart if len(apart) else free


def _draw(counts: Ints, free: Ints, n_sides: int, random: np.random.Generator) -> list[Ints]:
    """Return disjoint rows for each side: of a random order, the stretch whose size comes nearest to the share."""
    order = free[np.argsort(random.random(len(free)), kind="stable")]
    target, sizes = CUT_SHARE * counts.sum(), counts.sum(axis=1)
    keep_for_train = int(len(free) == len(counts))
    chosen: list[Ints] = []
    for sides_left in range(n_sides - 1, -1, -1):
        most = len(order) - sides_left - keep_for_train
        distance = np.abs(np.cumsum(sizes[order[:most]]) - target)
        taken = int(np.argmin(distance)) + 1
        chosen.append(order[:taken])
        order = order[taken:]
    return chosen


def _labels_lost(counts: Ints, chosen: list[Ints]) -> int:
    """Return the number of labels that would have no training item."""
    left = counts.sum(axis=0) - sum(counts[rows].sum(axis=0) for rows in chosen)
    return int((left == 0).sum())


def _cost(counts: Ints, chosen: list[Ints]) -> float:
    """Weigh a draw: a label out of train is worst, then one that a side can't measure, then uneven shares."""
    totals = counts.sum(axis=0)
    cost = 1e6 * _labels_lost(counts, chosen)
    for rows in chosen:
        side = counts[rows].sum(axis=0)
        cost += 10 * float((side == 0).sum()) / len(totals) + float(np.abs(side - CUT_SHARE * totals).sum()) / float(totals.sum())
    return cost
