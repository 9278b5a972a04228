"""The page with more than it should ever have to show, and with the nastiest words: fast enough, readable by all, text as text."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import NARROW, PATIENCE, WIDE, Watch, chromium
from tests.conftest import tone, wav_bytes
from tests.page_measure import filled, measure
from tests.page_rig import NASTY, WORDS
from tests.service import Service

pytestmark = pytest.mark.xdist_group("page_large")
CENTRE = "(mark) => { const box = mark.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }"
MOST_FIRST, MOST_TASK = 5_000, 1_500  # milliseconds: docs/page.md has what a quiet machine needs; this one is shared with other tests


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, dict[str, str]]]:
    service, ids = filled(tmp_path_factory.mktemp("large") / "data")
    try:
        yield service, ids
    finally:
        assert service.stop() == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    microphone: Path = tmp_path_factory.mktemp("sound") / "microphone.wav"
    microphone.write_bytes(wav_bytes(tone(600, 0.5)))
    with chromium(microphone) as running:
        yield running


@pytest.fixture
def watch(browser: Browser, large: tuple[Service, dict[str, str]]) -> Iterator[Watch]:
    opened = Watch(browser, large[0].url, WIDE)
    yield opened
    opened.close()


def views_of(ids: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """View → the nasty words that it must show; all others are looked at for what they must not become."""
    dataset, model = f"datasets/{ids['dataset']}", f"models/{ids['first']}"
    return {
        "": (), "datasets": NASTY[:1], dataset: NASTY, f"{dataset}?status=suspect": NASTY, f"{dataset}?status=rejected": NASTY,
        "record": (), "jobs": NASTY, f"jobs/{ids['job']}": NASTY, "jobs/new": NASTY[:1], "models": NASTY[2:3], model: NASTY,
        f"compare/{ids['first']}/{ids['second']}": NASTY, "try": NASTY[2:3],
        f"try?way=item&model={ids['first']}": (NASTY[0], NASTY[2]), "nowhere": (),
    }  # fmt: skip


def missing(watch: Watch, words: tuple[str, ...]) -> list[str]:
    """Which of the words the view does not show, once it had time to."""
    deadline = time.monotonic() + PATIENCE / 1000
    while True:
        text = watch.page.evaluate("document.getElementById('page').textContent")
        absent = [word for word in words if word not in text]
        if not absent or time.monotonic() > deadline:
            return absent
        watch.page.wait_for_timeout(100)


def test_words_are_text_everywhere_and_everybody_can_read_them(watch: Watch, large: tuple[Service, dict[str, str]]) -> None:
    _, ids = large
    for view, words in views_of(ids).items():
        watch.open(view)
        watch.settle()
        assert missing(watch, words) == [], view
        assert watch.page.locator("main img, main b, main br, main script").count() == 0, view
        assert "hit" not in watch.page.title().replace("document.title='hit'", "")
        watch.check()
        watch.show(NARROW, "dark")  # test_page.py has every look, of views that are smaller
        watch.check()
        assert watch.violations() == [], view
        watch.show(WIDE, "light")


def test_the_check_itself_finds_what_is_wrong(watch: Watch) -> None:
    watch.open("record")
    assert watch.violations() == []
    watch.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    watch.page.evaluate("document.querySelector('h1').style.color = '#ccc'")
    assert {found.partition(":")[0] for found in watch.violations()} == {"button-name", "color-contrast"}


def test_a_cell_of_the_matrix_tells_its_clips(watch: Watch, large: tuple[Service, dict[str, str]]) -> None:
    watch.open(f"models/{large[1]['first']}")
    page = watch.page
    expect(page.locator(".matrix .cell")).to_have_count(WORDS**2, timeout=PATIENCE)
    page.locator(".matrix .right .cell").first.click()
    clips = page.get_by_role("list", name="Clips of this cell")
    expect(clips.locator("li")).to_have_count(12, timeout=PATIENCE)
    expect(clips.locator("canvas")).to_have_count(12, timeout=PATIENCE)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".told").first).to_contain_text("0 of" if "·" in page.locator(":focus").inner_text() else "of")
    clips.get_by_role("button", name="Play").first.click()
    expect(clips.locator("audio")).to_have_count(1, timeout=PATIENCE)
    assert page.wait_for_function("() => document.querySelector('audio').duration > 0", timeout=PATIENCE)
    watch.check()


def test_verdicts_stand_over_the_clips_that_there_were(watch: Watch, large: tuple[Service, dict[str, str]]) -> None:
    watch.open(f"models/{large[1]['first']}")
    figure = watch.page.locator("figure", has_text="Right answers over the clips of each label")
    picture = figure.get_by_role("img")
    expect(picture).to_have_attribute("aria-label", re.compile(r"172 clips: 85\.0 % against 77\.0 %; 344 clips: 85\.0 % against 77\.0 %$"))
    own, scratch = figure.locator(".range.own circle"), figure.locator(".range.scratch rect")
    assert (own.count(), scratch.count()) == (2, 2)
    (left, high), (right, _), (_, low) = (mark.evaluate(CENTRE) for mark in (own.first, own.last, scratch.first))
    assert left < right
    assert high < low  # better stands higher, and pixels are counted from above
    figure.get_by_text("The numbers").click()
    rows = figure.get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("172")
    expect(rows.nth(1)).to_contain_text("+8.0 (+3.0 to +13.0)")
    rows.nth(2).get_by_role("link", name="second").click()
    expect(watch.page.locator("h1")).to_have_text("second", timeout=PATIENCE)
    watch.check()


@pytest.mark.slow
def test_it_stays_smooth(browser: Browser, large: tuple[Service, dict[str, str]]) -> None:
    for row in measure(browser, large[0].url, large[1]):
        assert row.longest <= MOST_TASK, row
        assert ", " in row.what or row.shown <= MOST_FIRST, row
