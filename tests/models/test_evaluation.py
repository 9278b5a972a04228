"""Metrics: by hand, against scikit-learn, and what they must never do."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from app.schemas.models import Evaluation
from models.evaluation import (
    MATRIX_LABELS,
    MEASURED_ITEMS,
    confusion,
    evaluate_split,
    evaluation_document,
    expected_calibration_error,
    wilson_interval,
)

LABELS = ("a", "b", "c")
# Predictions: a a b b b c; truth: a b b b c c. "a" is right 1 of 2 times, "b" 2 of 3, "c" 1 of 1.
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.9, 0.0], [0.3, 0.4, 0.3], [0.0, 0.7, 0.3], [0.0, 0.0, 1.0]], np.float32)
TRUTH = np.array([0, 1, 1, 1, 2, 2])


def random_split(seed: int, n: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.5), n).astype(np.float32)
    return probabilities, random.integers(0, classes, n)


def test_by_hand() -> None:
    found = evaluate_split(PROBABILITIES, TRUTH, LABELS)
    assert found["n"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["confusion_matrix"] == {"labels": ["a", "b", "c"], "counts": [[1, 0, 0], [1, 2, 0], [0, 1, 1]]}
    third = pytest.approx(2 / 3)
    assert found["per_label"]["a"] == {"precision": None, "recall": None, "f1": None, "support": 1}
    assert found["per_label"]["b"] == {"precision": third, "recall": third, "f1": third, "support": 3}
    assert found["per_label"]["c"] == {"precision": None, "recall": None, "f1": None, "support": 2}
    assert found["macro_f1"] == pytest.approx(2 / 3)
    # Six confidences in bins of their own; gaps 0.2 0.6 0.1 0.6 0.7 0.0.
    assert found["ece"] == pytest.approx((0.2 + 0.6 + 0.1 + 0.6 + 0.7) / 6, abs=1e-6)
    assert "by_group" not in found


def test_items_of_one_bin_share_their_gap() -> None:
    probabilities = np.array([[0.75, 0.25]] * 4, np.float32)
    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 0])) == pytest.approx(0.25)


def test_a_gap_is_not_paid_for_by_another_bins() -> None:
    probabilities = np.array([[0.9, 0.1], [1.0, 0.0]], np.float32)  # too modest, and far too sure
    assert expected_calibration_error(probabilities, np.array([0, 1])) == pytest.approx((0.1 + 1.0) / 2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 200))
def test_calibration_error_is_its_definition(seed: int, n: int) -> None:
    probabilities, truth = random_split(seed, n, 3)
    confidence, right = probabilities.max(axis=1).astype(float), probabilities.argmax(axis=1) == truth
    expected = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, 16)):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert expected_calibration_error(probabilities, truth) == pytest.approx(expected, abs=1e-6)


def test_full_confidence_has_a_bin() -> None:
    assert expected_calibration_error(np.array([[1.0, 0.0]], np.float32), np.array([1])) == 1.0


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # From (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n), by which
    # 0 of n ends at z² / (n + z²), n of n begins at n / (n + z²).
    [(8, 10, 0.490162, 0.943318), (0, 10, 0.0, 0.277533), (10, 10, 0.722467, 1.0), (2, 2, 0.342380, 1.0), (50, 100, 0.403832, 0.596168)],
)
def test_wilson_interval_by_hand(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx([low, high], abs=1e-6)


@given(n=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_interval_holds_the_share(n: int, share: float) -> None:
    successes = round(share * n)
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert high - low > 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60), classes=st.integers(2, 8))
def test_agrees_with_scikit_learn(seed: int, n: int, classes: int) -> None:
    probabilities, truth = random_split(seed, n, classes)
    predicted = probabilities.argmax(axis=1)
    labels = [f"label {index}" for index in range(classes)]
    found = evaluate_split(probabilities, truth, labels)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    with_items = np.unique(truth)
    f1 = metrics.f1_score(truth, predicted, labels=with_items, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(f1)
    expected = metrics.confusion_matrix(truth, predicted, labels=np.arange(classes))
    assert found["confusion_matrix"]["counts"] == expected.tolist()
    columns = metrics.precision_recall_fscore_support(truth, predicted, labels=np.arange(classes), zero_division=0)
    for label, precision, recall, score, support in zip(labels, *columns, strict=True):
        measured = found["per_label"][label]
        assert measured["support"] == support
        if support < MEASURED_ITEMS:
            assert measured["precision"] is measured["recall"] is measured["f1"] is None
            continue
        assert (measured["precision"] or 0) == pytest.approx(precision)
        assert (measured["recall"] or 0) == pytest.approx(recall)
        assert (measured["f1"] or 0) == pytest.approx(score)
    assert 0 <= found["ece"] <= 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_items_does_not_matter(seed: int) -> None:
    probabilities, truth = random_split(seed, 30, 4)
    order = np.random.default_rng(seed).permutation(30)
    one, other = evaluate_split(probabilities, truth, "abcd"), evaluate_split(probabilities[order], truth[order], "abcd")
    assert one.pop("ece") == pytest.approx(other.pop("ece"))
    assert one == other


def test_what_cannot_be_measured_is_none() -> None:
    found = evaluate_split(np.array([[1.0, 0.0, 0.0]] * 2 + [[0.0, 0.0, 1.0]] * 2, np.float32), np.array([0, 0, 0, 0]), LABELS)
    assert found["per_label"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 4}
    for label in "bc":  # one of them was predicted, neither has items
        assert found["per_label"][label] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert found["macro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("support", [1, 2, 3])
def test_a_label_with_one_or_two_items_has_no_scores_of_its_own(support: int) -> None:
    truth = np.array([0] * 5 + [1] * support)
    found = evaluate_split(np.eye(2, dtype=np.float32)[truth], truth, "ab")
    score = 1.0 if support >= MEASURED_ITEMS else None
    assert found["per_label"] == {
        "a": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 5},
        "b": {"precision": score, "recall": score, "f1": score, "support": support},
    }
    assert found["macro_f1"] == 1.0, "over all labels that have items"


def test_a_label_that_is_never_predicted_has_an_f1_of_nothing() -> None:
    found = evaluate_split(np.array([[1.0, 0.0]] * 6, np.float32), np.array([0, 0, 0, 1, 1, 1]), "ab")
    assert found["per_label"]["b"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 3}


def test_equal_probabilities_go_to_the_first_label_as_in_the_service() -> None:
    assert evaluate_split(np.array([[0.5, 0.5]], np.float32), np.array([0]), "ab")["accuracy"] == 1.0


def test_groups_are_measured_apart_and_items_without_one_left_out() -> None:
    groups = np.array([0, 0, 2, 2, 2, -1])
    found = evaluate_split(PROBABILITIES, TRUTH, LABELS, groups, ("ann", "bob", "cleo"))
    assert list(found["by_group"]) == ["ann", "cleo"]
    assert found["by_group"]["ann"] == {"n": 2, "accuracy": 0.5, "interval_95": wilson_interval(1, 2)}
    assert found["by_group"]["cleo"]["accuracy"] == pytest.approx(2 / 3)


def test_no_groups_no_field() -> None:
    assert "by_group" not in evaluate_split(PROBABILITIES, TRUTH, LABELS, np.full(6, -1), ("ann",))


def test_a_split_without_items_is_left_out() -> None:
    empty = evaluate_split(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), LABELS)
    document = evaluation_document({"validation": empty, "test": evaluate_split(PROBABILITIES, TRUTH, LABELS)})
    assert list(document["splits"]) == ["test"]


def test_the_document_is_what_the_service_promises() -> None:
    groups = np.array([0, 0, 1, 1, 1, 1])
    document = evaluation_document({"test": evaluate_split(PROBABILITIES, TRUTH, LABELS, groups, ("ann", "bob"))})
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    answer = Evaluation.model_validate({"object": "evaluation", "model": "mdl_1", **document})
    promised = {"accuracy", "macro_f1", "per_label", "confusion_matrix", "confused", "ece", "n", "interval_95", "by_group"}
    assert set(answer.splits["test"]) == promised | {"reliability", "reject_curve"}
    assert document["transfer"].items() >= {"verdict": "unmeasured", "gain": None, "interval_95": None, "controls": []}.items()
    told = {"verdict": "positive", "gain": 0.1, "interval_95": [0.05, 0.15], "controls": []}
    assert evaluation_document({}, told)["transfer"] == told


def test_rows_are_the_truth() -> None:
    assert confusion(np.array([1]), np.array([0]), 2).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [
        (PROBABILITIES[:5], TRUTH),
        (PROBABILITIES[:, :2], TRUTH),
        (PROBABILITIES, np.array([0, 1, 1, 1, 2, 3])),
        (PROBABILITIES, np.array([0, 1, 1, 1, 2, -1])),
        (PROBABILITIES * 2, TRUTH),
        (np.where(PROBABILITIES == 1, math.nan, PROBABILITIES), TRUTH),
    ],
    ids=["items", "classes", "beyond", "negative", "sum", "nan"],
)
def test_what_does_not_fit_is_refused(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError):
        evaluate_split(probabilities, truth, LABELS)


def test_no_interval_without_items() -> None:
    with pytest.raises(ValueError):
        wilson_interval(0, 0)


def test_many_labels_have_no_matrix_but_their_confusions() -> None:
    classes = MATRIX_LABELS + 1
    truth = np.repeat(np.arange(classes), 2)
    predicted = truth.copy()
    predicted[truth == 7] = 3
    predicted[0] = 1
    found = evaluate_split(np.eye(classes, dtype=np.float32)[predicted], truth, [f"label {index}" for index in range(classes)])
    assert found["confusion_matrix"] is None
    assert found["confused"] == [
        {"label": "label 7", "predicted": "label 3", "count": 2},
        {"label": "label 0", "predicted": "label 1", "count": 1},
    ]


def test_reliability_and_the_reject_curve_by_hand() -> None:
    found = evaluate_split(PROBABILITIES, TRUTH, LABELS)
    # Confidences 0.8 right, 0.6 wrong, 0.9 right, 0.4 right, 0.7 wrong, 1.0 right.
    rows = [(round(row["confidence"], 3), row["accuracy"], row["n"]) for row in found["reliability"]]
    assert rows == [(0.4, 1, 1), (0.6, 0, 1), (0.7, 0, 1), (0.8, 1, 1), (0.9, 1, 1), (1.0, 1, 1)]
    curve = [(row["answered"], row["accuracy"], round(row["threshold"], 3)) for row in found["reject_curve"]]
    assert curve == [(1 / 6, 1, 1.0), (2 / 6, 1, 0.9), (3 / 6, 1, 0.8), (4 / 6, 3 / 4, 0.7), (5 / 6, 3 / 5, 0.6), (1, 4 / 6, 0.4)]


@given(st.integers(0, 1000), st.integers(1, 200), st.integers(2, 9))
def test_curves_agree_with_the_measures(seed: int, n: int, classes: int) -> None:
    probabilities, truth = random_split(seed, n, classes)
    found = evaluate_split(probabilities, truth, [str(label) for label in range(classes)])
    bins, curve = found["reliability"], found["reject_curve"]
    assert sum(row["n"] for row in bins) == n
    assert sum(abs(row["confidence"] - row["accuracy"]) * row["n"] for row in bins) / n == pytest.approx(found["ece"], abs=1e-6)
    assert len(curve) <= 20
    assert (curve[-1]["answered"], curve[-1]["accuracy"]) == (1, found["accuracy"])
    assert [row["threshold"] for row in curve] == sorted((row["threshold"] for row in curve), reverse=True)
