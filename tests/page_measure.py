"""`python -m tests.page_measure`: how soon the page shows something, and how long it holds the reader up, with 10,000 items and 1,000 jobs.

The browser counts: milliseconds from the navigation's start to the view with its data, and its longest task since (W3C Long Tasks; what
takes less than 50 ms is none). Each view is opened in a fresh browser profile, so nothing is cached.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser import PATIENCE, WIDE, Watch, chromium
from tests.conftest import tone, wav_bytes
from tests.service import Service

_TASKS = """
window.tasks = [];
const observer = new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((entry) => entry.duration)));
observer.observe({ type: 'longtask', buffered: true });
"""
_SHOWN = """(selector) => document.querySelector(selector) && !document.body.textContent.includes('Loading …') && performance.now()"""


@dataclass(frozen=True)
class Measured:
    """One view, or something done in it."""

    what: str
    shown: float
    """milliseconds until it was there"""
    longest: float
    """milliseconds that the longest task took; 0: none took 50"""


def measure(browser: Browser, url: str, ids: dict[str, str]) -> list[Measured]:
    """Open the views that hold most, and do what people do there."""
    rows = []
    for what, view, there, act in _steps(ids):
        watch = Watch(browser, url, WIDE)
        watch.page.add_init_script(_TASKS)
        watch.page.goto(f"{url}/#/{view}")
        shown = float(watch.page.wait_for_function(_SHOWN, arg=there, timeout=PATIENCE).json_value())
        watch.settle()
        rows.append(Measured(what, shown, _longest(watch.page)))
        for doing, done in act:
            watch.page.evaluate("window.tasks.length = 0; window.began = performance.now()")
            done(watch.page)
            spent = float(watch.page.evaluate("performance.now() - window.began"))
            rows.append(Measured(f"{what}, {doing}", spent, _longest(watch.page)))
        watch.check()
        watch.close()
    return rows


Step = tuple[str, str, str, list[tuple[str, Callable[[Page], None]]]]


def _steps(ids: dict[str, str]) -> list[Step]:
    """Return what is opened: name, address, what shows that it is there, and what is done then."""
    rows = "main tbody tr"
    return [
        ("Start", "", ".steps", []),
        ("Jobs", "jobs", rows, [("all 1,000 of them, page by page", _all_pages)]),
        ("Dataset", f"datasets/{ids['dataset']}", "table tbody tr", [("1,000 files, page by page", lambda page: _pages(page, 9))]),
        ("Model with 35 × 35 matrix", f"models/{ids['first']}", ".matrix .cell", [("60 steps through the matrix", _walk)]),
        ("Two models", f"compare/{ids['first']}/{ids['second']}", ".pairs tbody tr", []),
        ("Job with 300 epochs", f"jobs/{ids['job']}", ".uplot canvas", []),
    ]


def _all_pages(page: Page) -> None:
    _pages(page, 30)


def _pages(page: Page, most: int) -> None:
    """Press "Show more" until there is no more, or so many times."""
    button = page.get_by_role("button", name="Show more")
    for _ in range(most):
        if not button.count():
            return
        before = page.locator("main tbody tr").count()
        button.click()
        page.wait_for_function("(before) => document.querySelectorAll('main tbody tr').length > before", arg=before, timeout=PATIENCE)


def _walk(page: Page) -> None:
    page.locator(".matrix .cell").first.focus()
    for step in range(60):
        page.keyboard.press("ArrowRight" if step % 2 else "ArrowDown")


def _longest(page: Page) -> float:
    page.wait_for_timeout(100)  # the observer hears of a task after it has ended
    return float(page.evaluate("Math.max(0, ...window.tasks)"))


def filled(folder: Path) -> tuple[Service, dict[str, str]]:
    """Start a service that holds all that tests/page_rig.py makes; return it with the ids."""
    made = subprocess.run([sys.executable, "-m", "tests.page_rig", str(folder)], check=True, capture_output=True, text=True)
    return Service(folder).start(), json.loads(made.stdout)


def main() -> None:
    """Print a table for docs/page.md."""
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder) / "microphone.wav"
        microphone.write_bytes(wav_bytes(tone(600, 0.5)))
        service, ids = filled(Path(folder) / "data")
        try:
            with chromium(microphone) as browser:
                rows = measure(browser, service.url, ids)
        finally:
            service.stop()
    lines = [f"| {row.what} | {row.shown:.0f} | {row.longest:.0f} |" for row in rows]
    sys.stdout.write("\n".join(["| | There after, ms | Longest task, ms |", "|---|---:|---:|", *lines]) + "\n")


if __name__ == "__main__":
    main()
