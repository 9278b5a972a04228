"""What the registered backbones look like, for processes that must not import torch.

catalog.json is written by `python -m models.backbones.describe`, and a test holds it against the networks themselves.
"""

import functools
import json
from pathlib import Path

CATALOG = Path(__file__).with_name("catalog.json")


@functools.cache
def architectures() -> dict[str, dict[str, int]]:
    """Return architecture → its layers from input to output, each with its number of parameters (three input channels)."""
    catalog: dict[str, dict[str, int]] = json.loads(CATALOG.read_text())
    return catalog
