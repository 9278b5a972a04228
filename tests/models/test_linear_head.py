"""The closed-form head: equal to refitting without each item, and to scikit-learn's ridge."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from models.linear_head import _left_out, fit_linear_head


def clusters(per_label: int = 6, classes: int = 5, features: int = 12, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(classes), per_label)
    centres = 2 * random.normal(size=(classes, features))
    return (centres[truth] + noise * random.normal(size=(len(truth), features))).astype(np.float32), truth


def test_left_out_answers_equal_those_of_refitting_without_each_item() -> None:
    vectors, truth = clusters()
    inputs = vectors.astype(float) - vectors.mean(axis=0, dtype=float)
    targets = np.eye(5)[truth]
    share = targets.mean(axis=0)
    left, values, _ = np.linalg.svd(inputs, full_matrices=False)
    found = _left_out(left, values, left.T @ (targets - share), targets, share, penalty=3.0)
    for index in range(len(vectors)):
        others = np.arange(len(vectors)) != index
        refitted = Ridge(alpha=3.0).fit(inputs[others], targets[others])
        assert found[index] == pytest.approx(refitted.predict(inputs[index : index + 1])[0], abs=1e-8)


def test_the_head_answers_and_knows_how_well() -> None:
    vectors, truth = clusters(per_label=80, noise=2.5)
    head = fit_linear_head(vectors[::2], truth[::2], 5)
    logits = vectors[1::2] @ head.weight.T + head.bias
    heard = (logits.argmax(axis=1) == truth[1::2]).mean()
    assert heard > 0.7
    assert head.accuracy == pytest.approx(heard, abs=0.15)


def test_probabilities_are_neither_flat_nor_certain_on_hard_items() -> None:
    vectors, truth = clusters(per_label=30, noise=6.0)
    head = fit_linear_head(vectors, truth, 5)
    logits = vectors @ head.weight.T + head.bias
    confidence = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).max(axis=1).mean()
    assert abs(confidence - head.accuracy) < 0.2


def test_a_dimension_that_never_varies_does_no_harm() -> None:
    vectors, truth = clusters()
    vectors[:, 3] = 7
    assert np.isfinite(fit_linear_head(vectors, truth, 5).weight).all()


def test_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match="leave one out"):
        fit_linear_head(np.zeros((1, 4), np.float32), np.zeros(1, np.int64), 2)
