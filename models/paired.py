"""Whether two models can be told apart: by the items on which only one of them errs, else by the intervals of their accuracies."""

from math import comb, sqrt

SIGNIFICANT = 0.05


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (1947), no unit.

    `only_first` counts the items on which the first model alone errs, `only_second` the second one's. Where both are equally good, each
    such item is a toss of a coin.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / (1 << n))


def difference_interval(
    first: float, around_first: tuple[float, float], second: float, around_second: tuple[float, float]
) -> tuple[float, float]:
    """Return the 95 % interval of `first - second`, shares measured on different items, from their own intervals (Newcombe 1998)."""
    (low_1, high_1), (low_2, high_2) = around_first, around_second
    gap = first - second
    return gap - sqrt((first - low_1) ** 2 + (high_2 - second) ** 2), gap + sqrt((high_1 - first) ** 2 + (second - low_2) ** 2)
