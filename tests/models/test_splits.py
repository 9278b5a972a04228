"""Splits: every item once, declarations kept, voices whole, labels in proportion, no label out of train."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import SPLITS, Split
from models.splits import assign_splits

Lists = tuple[list[int], list[int], list[Split | None]]
SIDES: tuple[Split, Split] = ("test", "validation")


@st.composite
def lists(draw: st.DrawFn, *, groups: st.SearchStrategy[int], declared: st.SearchStrategy[Split | None]) -> Lists:
    n_items = draw(st.integers(0, 60))
    labels = draw(st.lists(st.integers(0, 4), min_size=n_items, max_size=n_items))
    return (
        labels,
        draw(st.lists(groups, min_size=n_items, max_size=n_items)),
        draw(st.lists(declared, min_size=n_items, max_size=n_items)),
    )


NONE: st.SearchStrategy[Split | None] = st.none()
ANY = lists(groups=st.integers(-1, 6), declared=st.sampled_from([None, None, None, *SPLITS]))
UNGROUPED = lists(groups=st.just(-1), declared=NONE)
GROUPED = lists(groups=st.integers(0, 12), declared=NONE)


def sizes(splits: list[Split]) -> dict[Split, int]:
    counted = Counter(splits)
    return {split: counted[split] for split in SPLITS}


@given(ANY, st.integers(0, 5))
def test_every_item_is_assigned_and_declarations_are_kept(items: Lists, seed: int) -> None:
    labels, groups, declared = items
    splits = assign_splits(labels, groups, declared, seed)
    assert len(splits) == len(labels)
    assert set(splits) <= set(SPLITS)
    assert all(split == said for split, said in zip(splits, declared, strict=True) if said in SIDES)
    for side in SIDES:
        if side in declared:
            assert all((split == side) == (said == side) for split, said in zip(splits, declared, strict=True))


@given(ANY, st.integers(0, 5))
def test_the_same_list_gives_the_same_splits(items: Lists, seed: int) -> None:
    assert assign_splits(*items, seed) == assign_splits(*items, seed)


@given(ANY)
def test_no_label_of_the_pool_is_lost_from_train(items: Lists) -> None:
    labels, _, declared = items
    splits = assign_splits(*items)
    pool = {label for label, said in zip(labels, declared, strict=True) if said not in SIDES}
    assert pool <= {label for label, split in zip(labels, splits, strict=True) if split == "train"}


@given(UNGROUPED, st.integers(0, 5))
def test_without_groups_each_label_gives_its_tenth(items: Lists, seed: int) -> None:
    labels, _, _ = items
    splits = assign_splits(*items, seed)
    for label, count in Counter(labels).items():
        share = 0 if count < 3 else max(1, round(count / 10))
        own = sizes([split for split, of in zip(splits, labels, strict=True) if of == label])
        assert own == {"train": count - 2 * share, "validation": share, "test": share}


def whole(groups: list[int], splits: list[Split]) -> bool:
    return all(len({split for split, of in zip(splits, groups, strict=True) if of == group}) == 1 for group in set(groups))


@given(st.integers(3, 30), st.integers(1, 5), st.integers(1, 6), st.integers(0, 5))
def test_groups_stay_whole(n_groups: int, n_labels: int, repeats: int, seed: int) -> None:
    rows = list(product(range(n_groups), range(n_labels), range(repeats)))
    groups, labels = [group for group, _, _ in rows], [label for _, label, _ in rows]
    splits = assign_splits(labels, groups, [None] * len(rows), seed)
    assert whole(groups, splits)
    for side in SIDES:
        n_taken = sizes(splits)[side] / (n_labels * repeats)
        assert n_taken == 1 or abs(n_taken - n_groups / 10) <= 0.5


@given(GROUPED)
def test_a_group_is_cut_only_where_whole_groups_cannot_serve(items: Lists) -> None:
    labels, groups, _ = items
    splits = assign_splits(*items)
    held_by = {label: {group for group, of in zip(groups, labels, strict=True) if of == label} for label in labels}
    needed = {next(iter(holders)) for holders in held_by.values() if len(holders) == 1}
    movable = set(groups) - needed
    spare = len(movable) - (not needed)
    lost_anyway = any(holders <= movable and len(holders) <= 2 for holders in held_by.values())
    if spare >= 2 and not lost_anyway and len(movable) > 5:
        assert whole(groups, splits)


def test_with_two_groups_test_takes_one_and_validation_is_cut_from_the_other() -> None:
    labels, groups = [0, 1] * 20, [0] * 20 + [1] * 20
    splits = assign_splits(labels, groups, [None] * 40)
    by_group = [sizes(splits[:20]), sizes(splits[20:])]
    assert {"train": 0, "validation": 0, "test": 20} in by_group
    assert {"train": 18, "validation": 2, "test": 0} in by_group


def test_one_group_is_cut_item_by_item() -> None:
    assert sizes(assign_splits([0, 1] * 20, [3] * 40, [None] * 40)) == {"train": 32, "validation": 4, "test": 4}


def test_a_group_that_alone_holds_a_label_stays() -> None:
    labels = [0] * 40 + [1] * 5
    groups = [index % 8 for index in range(40)] + [3] * 5
    for seed in range(10):
        splits = assign_splits(labels, groups, [None] * 45, seed)
        assert {split for split, group in zip(splits, groups, strict=True) if group == 3} == {"train"}
        assert whole(groups, splits)


def test_a_missing_split_alone_is_cut_and_voices_of_the_declared_one_stay_out_of_it() -> None:
    groups = [index // 10 for index in range(100)]
    declared: list[Split | None] = ["test" if index < 15 else None for index in range(100)]
    for seed in range(10):
        splits = assign_splits([index % 2 for index in range(100)], groups, declared, seed)
        assert splits[:15] == ["test"] * 15
        assert splits[15:20] == ["train"] * 5  # the voice of a declared test item
        assert sizes(splits) == {"train": 75, "validation": 10, "test": 15}
        assert whole(groups[20:], splits[20:])


def test_uneven_groups_come_near_a_tenth() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(1, 40, 60)
    groups = np.repeat(np.arange(60), counts).tolist()
    labels = random.integers(0, 10, len(groups)).tolist()
    splits = assign_splits(labels, groups, [None] * len(groups))
    assert whole(groups, splits)
    for side in SIDES:
        share = sizes(splits)[side] / len(groups)
        assert share == pytest.approx(0.1, abs=0.02)
        assert len({label for label, split in zip(labels, splits, strict=True) if split == side}) == 10


def test_items_without_a_group_are_cut_one_by_one() -> None:
    groups = [-1] * 50 + [index // 5 for index in range(50)]
    splits = assign_splits([0] * 100, groups, [None] * 100)
    assert sizes(splits[:50]) == {"train": 40, "validation": 5, "test": 5}
    assert whole(groups[50:], splits[50:])


def test_all_declared_changes_nothing_and_nothing_is_cut_from_nothing() -> None:
    declared: list[Split | None] = ["train", "test", "validation", None]
    assert assign_splits([0, 0, 0, 0], [-1, 0, 0, 0], declared) == ["train", "test", "validation", "train"]
    assert assign_splits([], [], []) == []
    assert assign_splits([0, 1], [-1, -1], ["test", "test"]) == ["test", "test"]


def test_seeds_differ() -> None:
    assert len({tuple(assign_splits([0] * 50, [-1] * 50, [None] * 50, seed)) for seed in range(5)}) == 5


def test_the_cut_is_the_same_on_every_machine() -> None:
    splits = assign_splits([0, 1] * 10, [-1] * 20, [None] * 20, 7)
    assert sizes(splits) == {"train": 16, "validation": 2, "test": 2}
    # From PCG64(7)'s stream of raw numbers, which numpy promises not to change.
    assert [index for index, split in enumerate(splits) if split == "test"] == [3, 6]


def test_thousands_of_groups_and_labels_are_cut_whole_in_one_draw() -> None:
    random = np.random.default_rng(0)
    groups, labels = (np.arange(12000) // 3).tolist(), random.integers(0, 1500, 12000).tolist()
    splits = assign_splits(labels, groups, [None] * 12000)
    assert whole(groups, splits)
    assert set(labels) == {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    assert all(sizes(splits)[side] == pytest.approx(1200, abs=3) for side in SIDES)
