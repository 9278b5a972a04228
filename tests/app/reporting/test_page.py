"""The report: all of it in one file, nothing that runs or is fetched, and foreign text as text."""

import html.parser
import re
from typing import Any

import pytest

from app.reporting.page import Subject, report_page
from app.reporting.plots import bar_plot, line_plot, matrix_plot

EVIL = '<img src=x onerror="alert(1)">'
RIGHT_TO_LEFT = "\u202eمرحبا"
LABELS = [EVIL, RIGHT_TO_LEFT, "w" * 60]


class Page(html.parser.HTMLParser):
    """Which tags there are, whether they are closed, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def split(labels: list[str]) -> dict[str, Any]:
    return {
        "accuracy": 0.9, "interval_95": [0.8, 0.95], "n": 30, "ece": 0.03, "macro_f1": 0.88,
        "per_label": {label: {"precision": 0.9, "recall": None, "f1": 0.9, "support": 10} for label in labels},
        "confusion_matrix": {"labels": labels, "counts": [[9, 1, 0], [0, 10, 0], [1, 1, 8]]},
        "confused": [{"label": labels[0], "predicted": labels[1], "count": 1}],
        "reliability": [{"confidence": 0.5, "accuracy": 0.4, "n": 3}, {"confidence": 0.9, "accuracy": 0.95, "n": 27}],
        "reject_curve": [{"threshold": 0.0, "answered": 1.0, "accuracy": 0.9}, {"threshold": 0.5, "answered": 0.5, "accuracy": 1.0}],
        "by_group": {EVIL: {"accuracy": 0.9, "n": 30, "interval_95": [0.8, 0.95]}},
    }  # fmt: skip


def subject() -> Subject:
    model = {
        "id": "mdl_1", "name": EVIL, "labels": LABELS, "architecture": "resnet_tiny", "parameters": 12345, "dataset": "ds_1",
        "lineage": [{"model": "mdl_0", "dataset": "ds_0", "modality": "image", "architecture": "resnet_tiny"}],
        "transfer": {"mode": "full"},
    }  # fmt: skip
    job = {
        "id": "job_1", "status": "succeeded", "hyperparameters": {"epochs": 3}, "seed": 0, "name": EVIL,
        "error": {"code": "x", "message": EVIL},
    }  # fmt: skip
    evaluation = {
        "splits": {"test": split(LABELS)},
        "transfer": {
            "verdict": "positive", "gain": 0.12, "interval_95": [0.05, 0.2], "accuracy": 0.9, "sentence": "It paid.",
            "controls": [{"name": "scratch", "seed": 0, "accuracy": 0.78}],
        },
        "robustness": [{"name": "clean", "accuracy": 0.9, "n": 30}, {"name": "noise", "accuracy": 0.7, "n": 30}],
        "unknown": {"asked": 0.01, "accepted_noise": 0.02},
        "suspects": [{"file_name": EVIL, "split": "test", "label": LABELS[0], "predicted": LABELS[1], "probability": 0.99}],
    }  # fmt: skip
    curves = {
        "this job": [{"epoch": epoch, "validation_accuracy": epoch / 4, "train_loss": 1 / epoch} for epoch in (1, 2, 3)],
        "scratch": [{"epoch": 1, "validation_accuracy": 0.1, "train_loss": None}],
    }
    return Subject(job, model, evaluation, curves)


def test_every_part_is_there() -> None:
    page = Page(report_page(subject()))
    assert page.open == []
    for words in (
        "Learning", "What the transfer was worth", "It paid.", "+12.0 points", "On test items", "80.0% to 95.0%", "Calibration", "By group",
        "When the recording is worse", "none of the labels", "Lineage", "mdl_0", "Settings", "epochs", "Labels that are probably wrong",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.tags.count("svg") >= 6


def test_nothing_runs_and_nothing_is_fetched() -> None:
    text = report_page(subject())
    page = Page(text)
    assert {"script", "img", "link", "iframe", "object", "style"} & set(page.tags) == {"style"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "default-src 'none'" in text
    assert not re.search(r"https?://", text)


def test_foreign_text_is_text() -> None:
    page = Page(report_page(subject()))
    assert page.text.count(EVIL) >= 4
    assert "\u202e" not in page.text
    assert "مرحبا" in page.text
    assert "w" * 60 in page.text


@pytest.mark.parametrize("bare", [Subject(), Subject(job={"id": "job_1"}), Subject(model={"id": "mdl_1"}, evaluation={"splits": {}})])
def test_what_is_not_known_is_left_out(bare: Subject) -> None:
    page = Page(report_page(bare))
    assert page.open == []
    assert "On test items" not in page.text


def test_a_large_matrix_becomes_a_list() -> None:
    labels = [f"word {number}" for number in range(41)]
    found = split(LABELS) | {"confusion_matrix": {"labels": labels, "counts": [[0] * 41] * 41}}
    page = Page(report_page(Subject(model={"id": "mdl_1"}, evaluation={"splits": {"test": found}})))
    assert "taken for" in page.text
    assert "word 40" not in page.text


def test_plots_of_little_draw_something() -> None:
    assert line_plot({}, x="x", y="y") == ""
    assert "<circle" in line_plot({"one": [(1.0, 0.5)]}, x="x", y="y")
    assert "nan" not in line_plot({"flat": [(1.0, 0.5), (2.0, 0.5)]}, x="x", y="y")
    assert "<rect" in bar_plot({"a": (0.5, (0.4, 0.6))}, unit="share")
    assert matrix_plot(["a"], [[0]]).count("<rect") == 1
