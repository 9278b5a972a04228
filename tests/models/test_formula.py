"""Pictures by formula: the same request draws the same pictures, a label's pictures belong together, no two labels are one."""

import numpy as np
import pytest
from pydantic import ValidationError

from models.formula.generator import FAMILIES, FormulaConfig, draw_label, family_of, label_name


def config(generator: str = "mixed", **changes: int) -> FormulaConfig:
    return FormulaConfig(generator=generator, labels=10, items_per_label=12, seed=3, image_size=24, **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_have_the_shape_asked_for_and_are_not_blank(family: str) -> None:
    pictures = draw_label(config(family), 1)
    assert pictures.shape == (12, 24, 24, 3)
    assert pictures.dtype == np.uint8
    assert (pictures.reshape(12, -1).std(axis=1) > 5).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_request_draws_the_same_pictures(family: str) -> None:
    assert np.array_equal(draw_label(config(family), 4), draw_label(config(family), 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_seed_or_label_draws_others(family: str) -> None:
    first = draw_label(config(family), 4)
    assert not np.array_equal(first, draw_label(config(family), 5))
    assert not np.array_equal(first, draw_label(config(family).model_copy(update={"seed": 4}), 4))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_labels_pictures_differ(family: str) -> None:
    pictures = draw_label(config(family), 2)
    assert len(np.unique(pictures.reshape(12, -1), axis=0)) == 12


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_can_be_told_apart_by_their_shapes(family: str) -> None:
    """A nearest mean of brightness spectra, which shifts don't change, beats chance (1 in 10) clearly on pictures it has not seen."""
    wanted = config(family).model_copy(update={"items_per_label": 40})
    spectra = [np.abs(np.fft.fft2(_shape(draw_label(wanted, label)))) for label in range(10)]
    means = np.stack([found[:30].mean(axis=0) for found in spectra])
    right = [
        np.argmin([np.linalg.norm(one - mean) for mean in means]) == label for label, found in enumerate(spectra) for one in found[30:]
    ]
    assert np.mean(right) > 0.3


def test_mixed_takes_the_families_in_turn() -> None:
    wanted = config()
    assert [family_of(wanted, label) for label in range(len(FAMILIES))] == list(FAMILIES)
    assert label_name(wanted, 7) == f"{list(FAMILIES)[7 % len(FAMILIES)]}-0007"
    assert np.array_equal(draw_label(wanted, 2), draw_label(config("gratings"), 2))


@pytest.mark.parametrize(("field", "value"), [("labels", 1), ("labels", 5001), ("items_per_label", 0), ("image_size", 8), ("seed", -1)])
def test_sizes_out_of_bounds_are_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(ValidationError, match=field):
        FormulaConfig.model_validate({"generator": "fractals", field: value})


def _shape(pictures: np.ndarray) -> np.ndarray:
    """Return the brightness of each picture, shape (n, side, side), with mean 0 and deviation 1; its sign is chance and goes."""
    grey = pictures.astype(float).mean(axis=3)
    return (grey - grey.mean(axis=(1, 2), keepdims=True)) / np.maximum(grey.std(axis=(1, 2), keepdims=True), 1e-6)
