"""Labelled pictures from formulas: a source task that needs no data, no licence and no network.

A label is a random formula, an item a small change of its numbers; colors, grain and place are random and mean nothing. Everything
follows from (generator, seed, label), so the same request draws the same pictures everywhere.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import Field

from models.config import Frozen
from models.formula import contours, formants, fractals, gratings, textures, tracks
from models.formula.canvas import Pixels

GeneratorName = Literal["fractals", "contours", "gratings", "textures", "tracks", "formants", "mixed"]
MIXED = "mixed"
_Draw = Callable[[np.random.Generator, int, int], Pixels]
FAMILIES: dict[str, _Draw] = {
    "fractals": fractals.draw,
    "contours": contours.draw,
    "gratings": gratings.draw,
    "textures": textures.draw,
    "tracks": tracks.draw,
    "formants": formants.draw,
}


class FormulaConfig(Frozen):
    """Body of `POST /datasets` that asks for pictures by formula."""

    generator: GeneratorName = Field(description="mixed: the families in turn, label by label")
    labels: int = Field(1000, ge=2, le=5000)
    items_per_label: int = Field(100, ge=1, le=5000)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    image_size: int = Field(32, ge=16, le=128, description="pixels a side")


def family_of(config: FormulaConfig, label: int) -> str:
    """Return the family that draws the label number `label`."""
    return list(FAMILIES)[label % len(FAMILIES)] if config.generator == MIXED else config.generator


def label_name(config: FormulaConfig, label: int) -> str:
    """Return the label's name: its family and its number."""
    return f"{family_of(config, label)}-{label:04d}"


def draw_label(config: FormulaConfig, label: int) -> Pixels:
    """Return all pictures of one label, shape (items_per_label, image_size, image_size, 3). The same numbers give the same pictures."""
    family = family_of(config, label)
    random = np.random.default_rng((config.seed, list(FAMILIES).index(family), label))
    return FAMILIES[family](random, config.items_per_label, config.image_size)
