"""The people's page in a real browser, against a real service: from an archive to the right word, with nothing but clicks."""

import itertools
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from app.client import Client, Json
from tests.app.conftest import serving
from tests.browser import NARROW, PATIENCE, WIDE, Scheme, Watch, chromium
from tests.conftest import RATE, sound_archive, tone, wav_bytes
from tests.service import Service
from worker.settings import Settings

pytestmark = pytest.mark.xdist_group("service")
NASTY = ("<img src=x onerror=document.title='hit'>", "שלום 1", "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenfabrik")
KEY = "syn_page_0123456789abcdef"


@pytest.fixture(scope="module")
def sounds_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """word1 as a file, and over and over for the microphone that the browser pretends to have."""
    folder = tmp_path_factory.mktemp("page")
    word = tone(600, 0.5, seed=77)
    (folder / "said.wav").write_bytes(wav_bytes(word))
    (folder / "microphone.wav").write_bytes(wav_bytes(np.concatenate([word, np.zeros(RATE // 2, np.float32)])))
    (folder / "tones.zip").write_bytes(sound_archive(words=3))
    return folder


@pytest.fixture(scope="module")
def browser(sounds_folder: Path) -> Iterator[Browser]:
    with chromium(sounds_folder / "microphone.wav") as running:
        yield running


@pytest.fixture
def wide(browser: Browser, service: Service) -> Iterator[Watch]:
    watch = Watch(browser, service.url, WIDE)
    yield watch
    watch.close()


@pytest.fixture
def narrow(browser: Browser, service: Service) -> Iterator[Watch]:
    watch = Watch(browser, service.url, NARROW)
    yield watch
    watch.close()


@pytest.fixture(scope="module")
def began(browser: Browser, service: Service, sounds_folder: Path) -> float:
    """When the page is opened: service, browser and recordings are there."""
    return time.monotonic()


@pytest.fixture(scope="module")
def learned(browser: Browser, service: Service, sounds_folder: Path, began: float) -> Iterator[Watch]:
    """A page that has brought an archive, started a job and seen it learn; it stands at the job, which has ended."""
    watch = Watch(browser, service.url, WIDE)
    watch.open("")
    bring(watch.page, sounds_folder / "tones.zip")
    watch.check()
    train(watch.page)
    watch.check()
    yield watch
    watch.close()


def bring(page: Page, archive: Path) -> None:
    page.get_by_role("link", name="Upload recordings").click()
    page.get_by_label("Name", exact=True).fill("page tones")
    page.get_by_label("Choose an archive").set_input_files(archive)
    expect(page.get_by_role("heading", name="Labels and splits")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("row", name=re.compile("^word1")).first).to_contain_text("12")
    expect(page.locator(".examples canvas")).to_have_count(3, timeout=PATIENCE)
    page.locator(".examples").get_by_role("button", name="Play word1").click()
    plays(page)


def plays(page: Page) -> None:
    """A player is there, and the browser can play what it was given."""
    page.wait_for_function("() => document.querySelector('audio')?.duration > 0", timeout=PATIENCE)


def train(page: Page) -> None:
    page.get_by_role("link", name="Train on it").click()
    page.get_by_label("Begins from").select_option("resnet_tiny")
    expect(page.get_by_label("Carried over from seeing to hearing")).to_have_count(0)  # it has no weights to carry
    page.get_by_label("Epochs").fill("30")
    page.get_by_label("Name", exact=True).fill(NASTY[2])
    expect(page.get_by_text("Parameters that learn")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("heading", name="How it learns")).to_be_visible(timeout=PATIENCE)
    page.evaluate("""() => {
        const chart = document.querySelector('.chart [role=img]');
        window.seen = new Set();
        new MutationObserver(() => window.seen.add(chart.getAttribute('aria-label'))).observe(chart, { attributes: true });
    }""")
    expect(page.get_by_role("link", name="Its model")).to_be_visible(timeout=2 * PATIENCE)


def test_from_an_archive_to_the_right_word(learned: Watch, sounds_folder: Path, began: float) -> None:
    page = learned.page
    seen = page.evaluate("[...window.seen]")
    assert len(seen) >= 3, f"the curve did not move: {seen}"
    assert all(text.startswith("Validation accuracy; now this job ") for text in seen)
    page.get_by_role("link", name="Its model").click()
    expect(page.get_by_role("table", name="Confusion matrix")).to_be_visible(timeout=PATIENCE)
    cells = page.locator(".matrix .right button")
    assert cells.count() == 3
    cells.nth(1).click()
    expect(page.locator(".told")).to_contain_text("“word1” was heard as “word1”")
    clips = page.get_by_role("list", name="Clips of this cell").locator("li")
    expect(clips).to_have_count(int(cells.nth(1).inner_text()), timeout=PATIENCE)
    clips.first.get_by_role("button", name="Play").click()
    plays(page)
    learned.check()
    page.get_by_role("link", name="Try it").last.click()
    page.get_by_label("With", exact=True).select_option("file")
    page.get_by_label("Choose a recording").set_input_files(sounds_folder / "said.wav")
    expect(page.locator(".heard")).to_contain_text("word1", timeout=PATIENCE)
    sys.stdout.write(f"from the opened page to the right word: {time.monotonic() - began:.1f} s\n")  # docs/page.md has it; -s shows it
    expect(page.get_by_role("heading", name="What decided")).to_be_visible()
    expect(page.locator(".told")).to_contain_text("“word1”", timeout=PATIENCE)
    expect(page.locator(".spectrogram canvas")).to_have_count(1)
    learned.check()
    page.get_by_label("With", exact=True).select_option("item")
    page.get_by_role("button", name=re.compile("^Ask about ")).first.click()
    expect(page.get_by_text(re.compile("labelled “word"))).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".heard")).to_contain_text("word", timeout=PATIENCE)
    expect(page.locator(".told")).to_contain_text("“word", timeout=PATIENCE)
    learned.check()


@pytest.fixture(scope="module")
def job(learned: Watch, client: Client) -> Json:
    """The job that was started in the page."""
    found: Json = next(row for row in client.get("/jobs")["data"] if row["name"] == NASTY[2])
    return found


def test_the_microphone_is_heard_and_clips_become_a_dataset(wide: Watch, job: Json) -> None:
    page = wide.page
    wide.open(f"try?model={job['model']}")
    page.get_by_role("button", name="Speak for 2 seconds").click()
    expect(page.locator(".heard")).to_contain_text("word1", timeout=PATIENCE)
    page.get_by_label("With", exact=True).select_option("live")
    page.get_by_role("button", name="Listen").click()
    expect(page.locator(".heard-words li", has_text="word1").first).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Listen")).to_be_visible(timeout=PATIENCE)
    wide.check()

    page.get_by_role("link", name="Record", exact=True).click()
    page.get_by_label("Length").select_option("1")
    for label in NASTY:
        page.get_by_label("Word", exact=True).fill(label)
        page.get_by_role("button", name="Record").click()
        expect(page.locator(".take h3 bdi").last).to_have_text(label, timeout=PATIENCE)
    page.get_by_label("Name", exact=True).fill(NASTY[0])
    page.get_by_role("button", name="Save 3 clips").click()
    expect(page.get_by_role("heading", name="Labels and splits")).to_be_visible(timeout=PATIENCE)
    for label in NASTY:
        assert page.locator("tbody th bdi", has_text=label).count() >= 1
    expect(page.locator("h1")).to_have_text(NASTY[0])
    assert page.locator("main img").count() == 0
    assert page.title() == f"{NASTY[0]} · Synesthesia"
    wide.check()


def views_of(job: Json) -> list[str]:
    """Every view, by its address."""
    model = job["model"]
    things = [f"datasets/{job['dataset']}", f"jobs/{job['id']}", f"models/{model}", f"compare/{model}/{model}"]
    ways = [f"try?way={way}&model={model}" for way in ("clip", "file", "item", "live")]
    return ["", "datasets", "record", "jobs", "jobs/new", "models", *ways, *things, "nowhere"]


def test_every_view_fits_and_can_be_read_by_all(narrow: Watch, job: Json) -> None:
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for view in views_of(job):
        narrow.open(view)
        narrow.settle()
        for size, scheme in itertools.product((WIDE, NARROW), schemes):
            narrow.show(size, scheme)
            narrow.check()
            assert narrow.violations() == [], (view, size, scheme)
    assert "/#/nowhere" in narrow.page.url


def test_pictures_are_drawn_and_seen(narrow: Watch) -> None:
    narrow.open("datasets")
    page = narrow.page
    page.get_by_text("Draw pictures by formula instead").click()
    page.get_by_label("Family").select_option("gratings")
    page.get_by_label("Labels", exact=True).fill("3")
    page.get_by_label("Pictures of each").fill("6")
    page.get_by_label("Name of the pictures").fill("stripes")
    page.get_by_role("button", name="Draw 18 pictures").click()
    expect(page.locator("h1")).to_have_text("stripes", timeout=PATIENCE)
    expect(page.locator(".examples li")).to_have_count(3, timeout=PATIENCE)
    page.locator(".examples").scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelectorAll('.examples img').length >= 9", timeout=PATIENCE)
    assert page.evaluate(
        "() => [...document.querySelectorAll('.examples img')].every((image) => image.complete && image.naturalWidth === 32)"
    )
    narrow.settle()
    narrow.check()
    assert narrow.violations() == []


def test_a_folder_is_packed_in_the_browser(narrow: Watch, tmp_path: Path) -> None:
    for word, label in enumerate(("low", "high")):
        folder = tmp_path / "words" / label
        folder.mkdir(parents=True)
        for take in range(4):
            (folder / f"{take}.wav").write_bytes(wav_bytes(tone(300 * (1 + word) + take, 0.4, seed=take)))
    (tmp_path / "words" / "low" / "broken.wav").write_bytes(b"RIFF, but not really")
    (tmp_path / "words" / ".hidden").write_bytes(b"not for the dataset")
    narrow.open("datasets")
    narrow.page.get_by_label("Choose a folder").set_input_files(tmp_path / "words")
    expect(narrow.page.locator("h1")).to_have_text("words", timeout=PATIENCE)
    expect(narrow.page.get_by_role("heading", name="Labels and splits")).to_be_visible(timeout=PATIENCE)
    narrow.page.get_by_label("State").select_option("rejected")
    expect(narrow.page.get_by_role("table", name="Files of the dataset").locator("tbody tr")).to_have_count(1, timeout=PATIENCE)
    expect(narrow.page.get_by_role("row", name=re.compile("broken"))).to_contain_text("rejected")
    assert "status=rejected" in narrow.page.url
    narrow.check()


def test_a_locked_service_asks_for_its_key(browser: Browser, change_setting: Callable[..., Settings]) -> None:
    from app.main import create_app

    with serving(create_app(change_setting(api_key=KEY))) as (host, port):
        watch = Watch(browser, f"http://{host}:{port}", WIDE)
        page = watch.page
        watch.open("models")
        field = page.get_by_label("The key that the operator")
        field.fill("wrong")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_contain_text("not known here")
        field.fill(KEY)
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("heading", name="All models")).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text("There is none yet")).to_be_visible()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.reload()
        expect(page.get_by_role("heading", name="All models")).to_be_visible(timeout=PATIENCE)
        assert all("401" in complaint for complaint in watch.complaints), watch.complaints
        assert watch.foreign == []
        watch.close()
