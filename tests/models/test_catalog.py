"""catalog.json: what processes without torch know of the backbones."""

import json
import subprocess
import sys
from pathlib import Path

from models import catalog
from models.backbones import registry
from models.backbones.describe import catalog_text


def test_the_catalog_is_what_the_registry_says() -> None:
    """Where this fails: `python -m models.backbones.describe` writes the file anew."""
    described = {name: {layer.name: layer.parameters for layer in registry.describe(name)} for name in registry.names()}
    assert catalog.architectures() == described
    for name, layers in described.items():
        assert list(catalog.architectures()[name]) == list(layers)  # from input to output


def test_the_file_is_what_would_be_written() -> None:
    assert catalog.CATALOG.read_text() == catalog_text()


def test_reading_it_takes_no_torch() -> None:
    code = (
        "import sys, json; from models.catalog import architectures; print(json.dumps([sorted(architectures()), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert json.loads(done.stdout) == [sorted(registry.names()), False]
