"""For tests of golden clips: artifacts whose stored answers are not what the graph gives, as after an upgrade that changes answers."""

import dataclasses
from pathlib import Path

import numpy as np

from models.golden import GoldenSet, golden_bytes, read_golden
from models.manifest import GOLDEN, MANIFEST, read_manifest, sha256_of


def spoil(folder: Path, by: float = 0.01) -> GoldenSet:
    """Move the stored answers of the artifact's first clip by `by`, hashes included; return the new set."""
    manifest = read_manifest(folder)
    golden = read_golden(folder, manifest)
    assert golden is not None
    probabilities = golden.probabilities.copy()
    low, high = int(probabilities[0].argmin()), int(probabilities[0].argmax())
    probabilities[0, high] -= np.float32(by)
    probabilities[0, low] += np.float32(by)
    changed = dataclasses.replace(golden, probabilities=probabilities)
    write_golden(folder, golden_bytes(changed))
    return changed


def write_golden(folder: Path, content: bytes) -> None:
    """Put other bytes in place of the golden clips, hashes included."""
    manifest = read_manifest(folder)
    (folder / GOLDEN).write_bytes(content)
    changed = manifest.model_copy(update={"files": manifest.files | {GOLDEN: sha256_of(folder / GOLDEN)}})
    (folder / MANIFEST).write_text(changed.model_dump_json())
