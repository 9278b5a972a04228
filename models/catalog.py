"""What the registered backbones look like, for processes that must not import torch.

catalog.json is written by `python -m models.catalog`, and a test holds it against the networks themselves.
"""

import functools
import json
from pathlib import Path

_PATH = Path(__file__).with_name("catalog.json")


@functools.cache
def architectures() -> dict[str, dict[str, int]]:
    """Return architecture → its layers from input to output, each with its number of parameters (three input channels)."""
    catalog: dict[str, dict[str, int]] = json.loads(_PATH.read_text())
    return catalog


def write_catalog() -> None:
    """Write catalog.json from the registry. Needs torch."""
    from models.backbones.registry import describe, names  # noqa: PLC0415 - the one function here that may import torch

    catalog = {name: {layer.name: layer.parameters for layer in describe(name)} for name in names()}
    _PATH.write_text(json.dumps(catalog, indent=2) + "\n")


if __name__ == "__main__":
    write_catalog()
