"""One row of the fault table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One fault. `proofs` are pytest's node ids; one without a bracket stands for all of its parameters."""

    name: str
    fault: str
    injected: str
    expected: str
    proofs: tuple[str, ...]
