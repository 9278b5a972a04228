"""No floor of a dependency lies below a version that an advisory warns of; nor does what is installed here."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
ADVISORIES: list[dict[str, str]] = yaml.safe_load((ROOT / "tests" / "advisories.yml").read_text())


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {found.name.lower(): found for found in map(Requirement, lines)}


def lowest(requirement: Requirement) -> Version:
    """The oldest version that a requirement lets in."""
    floors = [Version(part.version.removesuffix(".*")) for part in requirement.specifier if part.operator in (">=", "==", "~=")]
    assert floors, f"{requirement} has no floor"
    return max(floors)


@pytest.mark.parametrize("row", ADVISORIES, ids=lambda row: f"{row['package']} {row['advisory']}")
def test_what_is_let_in_is_not_known_to_be_unsafe(row: dict[str, str]) -> None:
    assert re.fullmatch(r"CVE-\d{4}-\d{4,}", row["advisory"])
    safe = Version(row["below"])
    assert lowest(requirements()[row["package"]]) >= safe, row["what"]
    assert Version(version(row["package"])) >= safe, row["what"]
