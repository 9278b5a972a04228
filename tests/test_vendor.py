"""What the tests bring along of others' is what was published."""

import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "vendor"


def test_vendored_files_are_those_that_were_published() -> None:
    for folder in FOLDER.iterdir():
        readme = (folder / "README.md").read_text(encoding="utf-8")
        listed = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE)}
        assert {"LICENSE", "README.md"} < set(listed) | {"README.md"} == {path.name for path in folder.iterdir()}
        for name, digest in listed.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
