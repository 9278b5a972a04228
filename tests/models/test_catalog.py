"""catalog.json: what processes without torch know of the backbones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models import catalog
from models.backbones import registry


def test_the_catalog_is_what_the_registry_says() -> None:
    """Where this fails: `python -m models.catalog` writes the file anew."""
    described = {name: {layer.name: layer.parameters for layer in registry.describe(name)} for name in registry.names()}
    assert catalog.architectures() == described
    for name, layers in described.items():
        assert list(catalog.architectures()[name]) == list(layers)  # from input to output


def test_writing_it_gives_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = catalog._PATH.read_bytes()
    monkeypatch.setattr(catalog, "_PATH", tmp_path / "catalog.json")
    catalog.write_catalog()
    assert (tmp_path / "catalog.json").read_bytes() == stored


def test_reading_it_takes_no_torch() -> None:
    code = (
        "import sys, json; from models.catalog import architectures; print(json.dumps([sorted(architectures()), 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[2])
    assert json.loads(done.stdout) == [sorted(registry.names()), False]
