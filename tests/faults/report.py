"""`python -m tests.faults.report`: run the fault table, print what was seen, write docs/faults.md and the README's table of faults.

Exit status 1 where a row did not survive: a test failed, was skipped, or is not there.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from rich.console import Console
from rich.table import Table

from tests.faults import page
from tests.faults.rows import Row
from tests.faults.table import ROWS


@dataclass(eq=False)
class Recorder:
    """A plugin of pytest that notes how each test ended. Compared by identity: pytest keeps plugins in sets."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """node id → passed, failed or skipped; a test that failed in its set-up or after its end has failed"""
    seconds: dict[str, float] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for set-up, call and end of each test."""
        node = report.nodeid.partition("@")[0]  # xdist's group
        self.seconds[node] = self.seconds.get(node, 0.0) + report.duration
        if report.when == "call" or report.outcome != "passed":
            worst = "failed" in (report.outcome, self.outcomes.get(node))
            self.outcomes[node] = "failed" if worst else report.outcome


@dataclass(frozen=True)
class Seen:
    """What became of one row."""

    row: Row
    survived: bool
    words: str


def judge(row: Row, recorder: Recorder) -> Seen:
    """Return whether each proof of a row ran and passed; one that did not run proves nothing."""
    found = {proof: [node for node in recorder.outcomes if covers(proof, node)] for proof in row.proofs}
    nodes = sorted({node for ran in found.values() for node in ran})
    missing = [proof.rpartition("::")[2] for proof, ran in found.items() if not ran]
    bad = [f"{node.rpartition('::')[2]} {recorder.outcomes[node]}" for node in nodes if recorder.outcomes[node] != "passed"]
    bad += [f"{name} did not run" for name in missing]
    seconds = sum(recorder.seconds[node] for node in nodes)
    passed = f"{len(nodes)} test{'s' * (len(nodes) != 1)} passed in {seconds:.1f} s"
    return Seen(row, not bad, "; ".join(bad) or passed)


def covers(proof: str, node: str) -> bool:
    """Return whether a node id is `proof`, one of its parameters, or a test in that file."""
    return node == proof or node.startswith((f"{proof}[", f"{proof}::"))


def line_of(found: Seen) -> page.Line:
    """Return what the page says of a row."""
    return page.Line.of(found.row.fault, found.row.injected, found.row.expected, found.words, survived=found.survived)


def _show(seen: Iterable[Seen]) -> None:
    table = Table("fault", "injected", "expected", "seen", "survived")
    for found in seen:
        table.add_row(found.row.fault, found.row.injected, found.row.expected, found.words, "yes" if found.survived else "NO")
    Console(width=200).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that were named, or all, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(row.name for row in ROWS)}; all of them by default")
    parser.add_argument("--processes", default="0", help="test processes at once")
    parser.add_argument("--write", action="store_true", help="docs/faults.md and the README, which a run of all rows begins")
    asked = parser.parse_args(arguments)
    unknown = set(asked.rows) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    rows = [row for row in ROWS if not asked.rows or row.name in asked.rows]
    recorder = Recorder()
    proofs = sorted({proof for row in rows for proof in row.proofs})
    pytest.main([*proofs, "-q", "-n", asked.processes, "--dist", "loadgroup", "-m", "not cuda"], plugins=[recorder])
    seen = [judge(row, recorder) for row in rows]
    _show(seen)
    if asked.write and (not asked.rows or page.PAGE.exists()):
        old = page.read(page.PAGE.read_text()) if asked.rows else []
        page.write(page.merged(old, [line_of(found) for found in seen], [row.fault for row in ROWS]))
    return 0 if all(found.survived for found in seen) else 1


if __name__ == "__main__":
    sys.exit(main())
