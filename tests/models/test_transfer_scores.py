"""The scores against references: scikit-learn, direct optimization, and the formulas written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from models import transfer_scores
from models.transfer_scores import FOLDS, PENALTIES, Held, Spread, h_score, knn_right, linear_probe, log_me, standardized

LABELS = 4


def made(n: int = 60, width: int = 10, noise: float = 1.5, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors around one center a label."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, LABELS, n)
    vectors = random.normal(size=(LABELS, width))[truth] + noise * random.normal(size=(n, width))
    return vectors.astype(np.float32), truth


def test_standardized_dimensions() -> None:
    vectors = np.float32([[1, 7, 1e6], [3, 7, 3e6]])
    np.testing.assert_allclose(standardized(vectors), [[-1, 0, -1], [1, 0, 1]])


@pytest.mark.parametrize("by_group", [False, True])
def test_neighbors_are_those_of_scikit_learn(by_group: bool) -> None:
    vectors, truth = made()
    apart = np.random.default_rng(1).integers(0, 6, len(truth)) if by_group else np.arange(len(truth))
    expected = []
    for item in range(len(truth)):
        others = apart != apart[item]
        reference = KNeighborsClassifier(5, metric="cosine", algorithm="brute", weights=lambda distance: 2 - distance)
        expected.append(reference.fit(vectors[others], truth[others]).predict(vectors[item : item + 1])[0] == truth[item])
    found = knn_right(vectors.astype(np.float64), truth, apart)
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(found, expected)


def test_an_item_without_neighbors_is_wrong() -> None:
    vectors = np.ones((3, 2))
    assert not knn_right(vectors, np.zeros(3, np.int64), np.zeros(3, np.int64)).any()
    assert knn_right(vectors, np.zeros(3, np.int64), np.array([0, 0, 1])).all()


@pytest.mark.parametrize(("n", "width"), [(60, 10), (24, 40)])
def test_the_probe_is_ridge_regression_refitted_without_each_fold(n: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, truth = made(n, width)
    folds = np.random.default_rng(2).integers(0, 5, n)
    spread = Spread.of(vectors)
    targets = np.eye(LABELS)[truth]
    accuracies = []
    for penalty in PENALTIES:
        scores = np.empty_like(targets)
        for fold in range(5):
            held = folds == fold
            scores[held] = Ridge(penalty).fit(spread.vectors[~held], targets[~held]).predict(spread.vectors[held])
        np.testing.assert_allclose(transfer_scores._held_out_scores(spread, targets, folds, penalty), scores, atol=1e-8)
        accuracies.append(float((scores.argmax(axis=1) == truth).mean()))
    assert linear_probe(spread, truth, folds) == max(accuracies)


@pytest.mark.parametrize(("n", "width"), [(60, 10), (30, 50)])
def test_log_me_is_the_largest_evidence(n: int, width: int) -> None:
    vectors, truth = made(n, width)
    spread = Spread.of(vectors)
    plane = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]  # what centering leaves

    def largest(target: NDArray[np.float64]) -> float:
        def negative(logs: NDArray[np.float64]) -> float:
            seen = plane.T @ spread.vectors
            covariance = np.exp(-logs[0]) * seen @ seen.T + np.exp(-logs[1]) * np.eye(n - 1)
            return -float(multivariate_normal.logpdf(plane.T @ target, np.zeros(n - 1), covariance))

        options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000}
        return -float(minimize(negative, [0.0, 0.0], method="Nelder-Mead", options=options).fun)

    targets = np.eye(LABELS)[truth]
    expected = np.mean([largest(column - column.mean()) for column in targets.T]) / n
    assert log_me(spread, truth) == pytest.approx(expected, abs=1e-6)


def test_h_score_is_its_formula() -> None:
    vectors, truth = made()
    spread = Spread.of(vectors)
    shrunk = LedoitWolf().fit(spread.vectors)
    means = np.stack([spread.vectors[truth == label].mean(axis=0) for label in range(LABELS)])[truth]
    between = np.cov(means, rowvar=False, bias=True)
    expected = np.trace(np.linalg.inv(shrunk.covariance_) @ between) * (1 - shrunk.shrinkage_)
    assert h_score(spread, truth) == pytest.approx(expected)


@given(st.floats(0.1, 10), st.integers(0, 5))
def test_scores_do_not_depend_on_the_scale(scale: float, seed: int) -> None:
    vectors, truth = made(seed=seed)
    held = Held.of(truth, np.full(len(truth), -1))
    found, scaled = Spread.of(vectors), Spread.of(vectors * np.float32(scale) + 1)
    assert log_me(scaled, truth) == pytest.approx(log_me(found, truth), abs=1e-4)
    assert h_score(scaled, truth) == pytest.approx(h_score(found, truth), abs=1e-3)
    assert knn_right(scaled.vectors, truth, held.apart).mean() == pytest.approx(
        knn_right(found.vectors, truth, held.apart).mean(), abs=0.04
    )


@pytest.mark.parametrize("score", [log_me, h_score, lambda spread, truth: linear_probe(spread, truth, np.arange(len(truth)) % 5)])
def test_clearer_vectors_score_higher(score: object) -> None:
    assert callable(score)
    clear, vague = (score(Spread.of(made(noise=noise)[0]), made()[1]) for noise in (0.5, 3.0))
    assert clear > vague


def test_vectors_that_say_nothing_and_vectors_that_say_all() -> None:
    truth = np.array([0, 1] * 10)
    nothing, everything = Spread.of(np.ones((20, 4), np.float32)), Spread.of(np.eye(2, dtype=np.float32)[truth])
    for spread in (nothing, everything):
        assert np.isfinite([log_me(spread, truth), h_score(spread, truth), linear_probe(spread, truth, np.arange(20) % 5)]).all()
    assert (h_score(nothing, truth), h_score(everything, truth)) == (0.0, pytest.approx(1.0, abs=0.1))
    assert log_me(nothing, truth) < log_me(everything, truth)


def test_groups_are_held_out_where_labels_have_several() -> None:
    truth = np.array([0, 1] * 6)
    voices = np.repeat([0, 1, -1, 3], 3)
    held = Held.of(truth, voices)
    assert held.by_group
    assert [len(set(held.apart[voices == voice])) for voice in (0, 1, -1, 3)] == [1, 1, 3, 1]  # who has no group stands alone
    assert len(set(held.apart)) == 6
    own = Held.of(truth, truth)  # each label has a voice of its own
    assert not own.by_group
    assert len(set(own.apart)) == 12
    assert not Held.of(truth, np.full(12, -1)).by_group


def test_folds_keep_groups_whole_and_share_labels() -> None:
    truth = np.repeat([0, 1, 2], 20)
    single = Held.of(truth, np.full(60, -1)).folds
    assert np.bincount(single).tolist() == [6] * FOLDS
    assert all(np.bincount(truth[single == fold]).tolist() == [2, 2, 2] for fold in range(FOLDS))
    groups = np.arange(60) % 15
    folds = Held.of(truth, groups).folds
    assert len(set(folds)) == FOLDS
    assert all(len(set(folds[groups == group])) == 1 for group in range(15))
