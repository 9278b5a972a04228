"""A real browser for tests: Chromium with a microphone that says what a file holds, and a page with all that it complained of."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

WIDE, NARROW = (1280, 900), (390, 844)
PATIENCE = 40_000  # milliseconds: cores are shared with other tests
CALM = 3  # looks, 50 ms apart, at which nothing is under way
AXE = Path(__file__).parent / "vendor" / "axe" / "axe.min.js"
# WCAG 2.0 to 2.2, levels A and AA, and what axe's makers hold to be good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
Scheme = Literal["light", "dark"]


@contextlib.contextmanager
def chromium(microphone: Path) -> Iterator[Browser]:
    """Start the system's Chromium; its microphone hears the sound `microphone` over and over."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "no Chromium; scripts/test_services.sh installs one"
    fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_playwright() as playwright:
        # Inside containers tests run as root, and Chromium's sandbox does not.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", *fakes])
        yield running
        running.close()


class Watch:
    """A page of a browser, with all that it complained of and all that it asked for."""

    def __init__(self, browser: Browser, url: str, size: tuple[int, int]) -> None:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        self.url = url
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._under_way: set[Request] = set()
        self.page.on("request", self._begin)
        self.page.on("requestfinished", self._end)
        self.page.on("requestfailed", self._end)

    def open(self, view: str) -> None:
        self.page.goto(f"{self.url}/#/{view}")
        expect(self.page.locator("h1")).to_be_visible(timeout=PATIENCE)

    def check(self) -> None:
        """Nothing was complained of, nothing left the origin, and nothing is wider than the window."""
        assert self.complaints == []
        assert self.foreign == []
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{self.page.url} is {wide} pixels wider than the window"

    def settle(self) -> None:
        """Wait until nothing is loading any more: no word says so, and no request is under way but a feed of events, which stays open."""
        expect(self.page.get_by_text("Loading …")).to_have_count(0, timeout=PATIENCE)
        deadline, calm = time.monotonic() + PATIENCE / 1000, 0
        while calm < CALM:
            self.page.wait_for_timeout(50)
            calm = 0 if self._under_way else calm + 1
            assert time.monotonic() < deadline, f"still asking for {[request.url for request in self._under_way]}"

    def _begin(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", f"blob:{self.url}/")):
            self.foreign.append(request.url)
        if "/events?" not in request.url and not request.url.startswith("blob:"):  # of blobs the browser tells no end
            self._under_way.add(request)

    def _end(self, request: Request) -> None:
        self._under_way.discard(request)

    def show(self, size: tuple[int, int], scheme: Scheme) -> None:
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        # Plots are told of their new width after the first frame, and drawn with the next.
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the view as it stands: rule, element and why."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))  # by the debugger, which the page's policy does not bind
        found: list[dict[str, Any]] = self.page.evaluate(
            "(rules) => axe.run(document, { runOnly: rules, resultTypes: ['violations'] }).then((result) => result.violations)", RULES
        )
        return [f"{rule['id']}: {node['html'][:200]}: {node['failureSummary'][:400]}" for rule in found for node in rule["nodes"]]

    def close(self) -> None:
        self.page.context.close()
