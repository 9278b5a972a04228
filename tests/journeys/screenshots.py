"""`python -m tests.journeys.screenshots`: every view as docs/images shows it, in light and dark, wide and narrow.

A service of its own learns ten spoken words, from one voice, from two and from three, so there is something to see; on two cores that
takes some minutes. The pictures get a palette of few colors: together they have to stay below MOST_BYTES.
"""

import csv
import io
import itertools
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from app.client import Client, Json
from app.demo.spoken import write_spoken
from tests.browser import NARROW, PATIENCE, WIDE, Scheme, Watch, chromium
from tests.conftest import zip_bytes
from tests.service import Service, finished, wait_until

FOLDER = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 1_500_000  # all together
ROOM = 60_000  # of each, if it can be had
GROUNDS = 12
COLORS = (52, 24, 12)  # beside the grounds
SIZES = {"wide": WIDE, "narrow": NARROW}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
_SEEN = """() => [...document.querySelectorAll('.examples .thumb')].every(
    (thumb) => thumb.getBoundingClientRect().top > innerHeight || thumb.querySelector('img')?.complete)"""
_AT_TOP = "(found) => found.scrollIntoView()"
LEARN_SECONDS = 1800.0  # at most


def main() -> None:
    """Take all pictures anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "spoken.zip"
        write_spoken(archive)
        service = Service(Path(scratch) / "data").start()
        try:
            with service.client() as client:
                ids = learn(client, archive)
                said = Path(scratch) / "said.wav"
                _test_clip(client, ids["dataset"], said)
                take(service.url, ids, said)
        finally:
            service.stop()
    size = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    sys.stdout.write(f"{len(list(FOLDER.glob('*.png')))} pictures, {size:,} bytes\n")
    assert size <= MOST_BYTES, "fewer colors or smaller windows"


def learn(client: Client, archive: Path) -> dict[str, str]:
    """Bring words and pictures, train with controls, and return the ids of what came of it."""
    pictures = client.generate_dataset("mixed", labels=12, items_per_label=20, name="formulas")
    words: Json = {"id": None}
    for voices, part in enumerate(parts_of(archive), start=1):
        sent = client.upload_dataset(part, name=f"spoken digits, {voices} voice{'s' * (voices > 1)}", parent=words["id"])
        words = client.wait_dataset(str(sent["id"]), poll_seconds=0.5)
        done = _taught(client, words["id"], f"digits with sight, {voices}")
    scratch = next(control["job"] for control in client.get(f"/jobs/{done['id']}")["controls"] if control["name"] == "scratch")
    other = client.get(f"/jobs/{scratch}")["model"]
    return {"dataset": words["id"], "pictures": pictures["id"], "job": done["id"], "model": done["model"], "other": other}


def parts_of(archive: Path) -> list[Path]:
    """Cut an archive by the voices to learn from: the first part has what is judged on too, each other one extends those before."""
    with zipfile.ZipFile(archive) as whole:
        rows = list(csv.DictReader(io.TextIOWrapper(whole.open("metadata.csv"), encoding="utf-8")))
        voices = list(dict.fromkeys(row["speaker"] for row in rows if row["split"] == "train"))
        parts = []
        for place, voice in enumerate(voices):
            kept = [row for row in rows if (row["split"], row["speaker"]) == ("train", voice) or (not place and row["split"] != "train")]
            table = io.StringIO()
            writer = csv.DictWriter(table, list(rows[0]))
            writer.writeheader()
            writer.writerows(kept)
            parts.append(archive.with_name(f"part{place}.zip"))
            files = {row["file_name"]: whole.read(row["file_name"]) for row in kept}
            parts[-1].write_bytes(zip_bytes(files | {"metadata.csv": table.getvalue().encode()}))
    return parts


def _taught(client: Client, dataset: str, name: str) -> Json:
    """Return the job that learned a dataset, once its controls have ended too."""
    asked: Json = {
        "dataset": dataset, "base_model": "bundled", "transfer": {"mode": "full"}, "name": name, "alias": "digits",
        "hyperparameters": {"epochs": 25}, "evaluation": {"controls": "full", "unknown_false_accept": 0.01},
    }  # fmt: skip
    job = finished(client, str(client.post("/jobs", asked)["id"]), LEARN_SECONDS)
    assert job["status"] == "succeeded", job
    wait_until(lambda: _judged(client, str(job["id"])), LEARN_SECONDS)
    return job


def _judged(client: Client, job: str) -> bool:
    return all(control["status"] in ("succeeded", "failed", "cancelled") for control in client.get(f"/jobs/{job}")["controls"])


def _test_clip(client: Client, dataset: str, target: Path) -> None:
    """Fetch a word that was not trained on."""
    item = client.get(f"/datasets/{dataset}/items?split=test&label=seven&limit=1")["data"][0]
    client.download(f"/datasets/{dataset}/items/{item['id']}/content", target)


def take(url: str, ids: dict[str, str], said: Path) -> None:
    """Take every view in every look."""
    with chromium(said) as browser:
        watch = Watch(browser, url, WIDE)
        for name, view, part, act in views(ids, said):
            watch.open(view)
            watch.settle()
            act(watch.page)
            watch.settle()
            for (size, window), scheme in itertools.product(SIZES.items(), SCHEMES):
                watch.show(window, scheme)
                watch.page.locator("h1, h2, figcaption", has_text=re.compile(f"^{re.escape(part)}$")).evaluate(_AT_TOP)
                watch.page.wait_for_function(_SEEN)  # pictures are fetched when they come into view
                watch.page.wait_for_timeout(300)  # and plots drawn anew in the other colors
                keep(watch.page.screenshot(), FOLDER / f"{name}-{scheme}-{size}.png")
            watch.show(WIDE, "light")
        watch.check()
        watch.close()


View = tuple[str, str, str, Callable[[Page], None]]


def views(ids: dict[str, str], said: Path) -> list[View]:
    """Return name, address, the heading or caption that stands at the top of the picture, and what is done before."""
    model, dataset = ids["model"], ids["dataset"]
    return [
        ("start", "", "Teach a network that can see to listen", _nothing),
        ("datasets", "datasets", "Datasets", _nothing),
        ("dataset", f"datasets/{dataset}", "Examples", _nothing),
        ("pictures", f"datasets/{ids['pictures']}", "Examples", _nothing),
        ("record", "record", "Record words", _nothing),
        ("jobs", "jobs", "Jobs", _nothing),
        ("new-job", f"jobs/new?dataset={dataset}", "Start a job", _quoted),
        ("job", f"jobs/{ids['job']}", "How it learns", _nothing),
        ("models", "models", "Models", _nothing),
        ("verdict", f"models/{model}", "Did the transfer pay?", _nothing),
        ("over-clips", f"models/{model}", "Right answers over the clips of each label", _nothing),
        ("matrix", f"models/{model}", "What is taken for what", _chosen),
        ("calibration", f"models/{model}", "Can its probabilities be believed?", _nothing),
        ("compare", f"compare/{ids['other']}/{model}", "Two models side by side", _nothing),
        ("try", f"try?model={model}&way=file", "The answer", lambda page: _asked(page, said)),
    ]


def _nothing(_page: Page) -> None:
    """What opens is what is to be seen."""


def _quoted(page: Page) -> None:
    expect(page.get_by_text("Parameters that learn")).to_be_visible(timeout=2 * PATIENCE)


def _chosen(page: Page) -> None:
    page.locator(".matrix .right .cell").nth(1).click()
    expect(page.get_by_role("list", name="Clips of this cell").locator("canvas").first).to_be_visible(timeout=PATIENCE)


def _asked(page: Page, said: Path) -> None:
    page.get_by_label("Choose a recording").set_input_files(said)
    expect(page.locator(".told")).to_be_visible(timeout=PATIENCE)


def keep(content: bytes, path: Path) -> None:
    """Write a picture with as many colors as it has room for: those that most pixels have as they are, so that no ground is tinted."""
    with Image.open(io.BytesIO(content)) as shot:
        full = shot.convert("RGB")
    counted = sorted(full.getcolors(full.width * full.height) or [], reverse=True)
    grounds = [channel for _, color in counted[:GROUNDS] for channel in color]  # type: ignore[union-attr]  # of RGB, a color is a tuple
    for colors in COLORS:
        palette = Image.new("P", (1, 1))
        palette.putpalette(grounds + (full.quantize(colors, Image.Quantize.MAXCOVERAGE).getpalette() or [])[: 3 * colors])
        full.quantize(palette=palette, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)
        if path.stat().st_size <= ROOM:
            return


if __name__ == "__main__":
    main()
