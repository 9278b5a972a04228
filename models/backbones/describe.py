"""`python -m models.backbones.describe` writes catalog.json anew from the registry: run it after adding or changing a backbone."""

import json

from models.backbones.registry import describe, names
from models.catalog import CATALOG


def catalog_text() -> str:
    """Return catalog.json's content."""
    catalog = {name: {layer.name: layer.parameters for layer in describe(name)} for name in names()}
    return json.dumps(catalog, indent=2) + "\n"


if __name__ == "__main__":
    CATALOG.write_text(catalog_text())
