"""Labels that look wrong: those that were made wrong, and nothing that the model is merely unsure of."""

import numpy as np

from models.suspects import find_suspects


def answers(confidences: list[float], predicted: list[int]) -> np.ndarray:
    rows = np.zeros((len(predicted), 3), np.float32)
    for row, (confidence, label) in enumerate(zip(confidences, predicted, strict=True)):
        rows[row] = (1 - confidence) / 2
        rows[row, label] = confidence
    return rows


def test_wrong_labels_are_found_and_the_surest_comes_first() -> None:
    probabilities = answers([0.9] * 9 + [0.95, 0.99], [0, 0, 0, 1, 1, 1, 2, 2, 2, 1, 2])
    truth = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1])
    found = find_suspects(probabilities, truth)
    assert [(suspect.place, suspect.predicted) for suspect in found] == [(10, 2), (9, 1)]
    assert found[0].probability == np.float32(0.99)


def test_a_doubtful_contradiction_is_none() -> None:
    probabilities = answers([0.9] * 6 + [0.6], [0, 0, 0, 1, 1, 1, 1])
    assert find_suspects(probabilities, np.array([0, 0, 0, 1, 1, 1, 0])) == []


def test_a_label_that_the_model_is_never_sure_of_is_held_to_less() -> None:
    probabilities = answers([0.9] * 3 + [0.5] * 3 + [0.6], [0, 0, 0, 1, 1, 1, 1])
    assert [suspect.place for suspect in find_suspects(probabilities, np.array([0, 0, 0, 1, 1, 1, 0]))] == [6]


def test_so_many_and_no_more() -> None:
    probabilities = answers([0.9] * 30, [0] * 20 + [1] * 10)
    truth = np.array([0] * 10 + [1] * 10 + [1] * 10)
    assert len(find_suspects(probabilities, truth)) == 10
    assert len(find_suspects(probabilities, truth, most=3)) == 3
    assert find_suspects(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == []


def test_a_label_without_items_accuses_only_where_the_model_is_sure() -> None:
    assert find_suspects(answers([0.85], [2]), np.array([0])) == []


def test_surely_is_sure_enough_where_the_model_always_is() -> None:
    probabilities = answers([0.99] * 3 + [0.98] * 3 + [0.97], [0, 0, 0, 1, 1, 1, 1])
    assert [suspect.place for suspect in find_suspects(probabilities, np.array([0, 0, 0, 1, 1, 1, 0]))] == [6]
