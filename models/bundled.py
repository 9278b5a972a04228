"""The backbone that comes with the package: trained by this project's own pretrain job on pictures made by formula.

No data, no licence and no network is needed to carry its layers over. `benchmarks/bundled.py` is its recipe; what it is worth to speech
stands in benchmarks/results/. No torch here: the API lists it.
"""

import functools
from pathlib import Path
from typing import Any

from pydantic import Field

from models.config import Frozen, LineageEntry, NetworkConfig

NAME = "bundled"
FOLDER = Path(__file__).with_name("bundled_weights")
WEIGHTS = FOLDER / "backbone.safetensors"
DESCRIPTION = FOLDER / "backbone.json"


class BundledBackbone(Frozen):
    """backbone.json: what the weights beside it are."""

    network: NetworkConfig = Field(description="without labels: a source of layers, not a classifier")
    layers: dict[str, int] = Field(description="layer → parameters, from input to output")
    sha256: str = Field(description="of the weights")
    lineage: tuple[LineageEntry, ...]
    recipe: dict[str, Any] = Field(description="bodies of POST /datasets and POST /jobs that made it")
    metrics: dict[str, float] = Field(description="of its own task")


@functools.cache
def bundled_backbone() -> BundledBackbone:
    """Return the description of the backbone that comes with the package."""
    return BundledBackbone.model_validate_json(DESCRIPTION.read_bytes())
