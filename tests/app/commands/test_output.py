import io

import pytest
from rich.console import Console

from app.client import RefusedError, UnreachableError
from app.commands import output
from app.commands.output import complain, complain_of_problem, complain_of_silence, details_of, plain, table_of
from app.commands.progress import JobView, bytes_bar, count_bar, measures
from models.errors import ConfigError


def shown(renderable: object, *, terminal: bool = False) -> str:
    sink = io.StringIO()
    Console(file=sink, width=120, force_terminal=terminal, color_system=None).print(renderable)
    return sink.getvalue()


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    sink = io.StringIO()
    monkeypatch.setattr(output, "err", Console(file=sink, width=40, color_system=None))
    return sink


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.123456, "0.1235"),
        (12, "12"),
        ("a\x1b[31mb\n", "a�[31mb�"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("zwölf 😀", "zwölf 😀"),
    ],
)
def test_cells_are_shown_as_they_are(value: object, text: str) -> None:
    assert plain(value).plain == text


def test_tables_and_details() -> None:
    table = shown(table_of(("id", "score"), [("a", 0.5), ("b", None)], title="t"))
    assert [line.split() for line in table.splitlines()] == [["t"], ["id", "score"], ["a", "0.5"], ["b"]]
    details = shown(details_of({"empty": None, "none": [], "words": ["a", "b"], "deep": {"x": 1, "y": None, "z": [2]}, "zero": 0}))
    assert [line.strip().split(maxsplit=1) for line in details.splitlines()] == [["words", "a, b"], ["deep", "x 1, z 2"], ["zero", "0"]]


def test_a_problem_is_shown_with_everything_that_helps(errors: io.StringIO) -> None:
    problem = {
        "title": "A field is wrong",
        "detail": "a detail that is longer than the terminal is wide",
        "hint": "do that\x1b",
        "errors": [{"pointer": "/a/b", "detail": "is wrong"}, {}],
    }
    complain_of_problem(RefusedError(422, problem))
    assert errors.getvalue().splitlines() == [
        "error A field is wrong (422)",
        "  a detail that is longer than the terminal is wide",
        "  do that�",
        "  /a/b is wrong",
        "   ",
    ]


def test_other_failures(errors: io.StringIO) -> None:
    complain_of_silence(UnreachableError("http://x", "refused"))
    complain(ConfigError("no", hint="do that"))
    complain(ValueError("wrong"))
    lines = errors.getvalue().splitlines()
    assert lines[0] == "error no answer from http://x: refused"
    assert lines[2:] == ["error no", "  do that", "error wrong"]


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({}, ""),
        ({"train_loss": 0.5}, "loss 0.500"),
        ({"train_loss": 0.5, "validation_loss": 0.25, "validation_accuracy": 0.9}, "loss 0.250  accuracy 90.0%"),
        ({"validation_loss": None, "validation_accuracy": 1.0}, "accuracy 100.0%"),
    ],
)
def test_measures(metrics: dict[str, float], text: str) -> None:
    assert measures(metrics) == text


def test_without_a_terminal_there_are_lines_and_no_bars() -> None:
    sink = io.StringIO()
    console = Console(file=sink, width=80)
    with bytes_bar("upload", 100, console) as on_bytes, count_bar("read", None, console) as on_count:
        on_bytes(50)
        on_count(1, 2)
    assert sink.getvalue() == ""
    job = {"status": "running", "progress": {"phase": "training", "epoch": 1, "epochs": 2, "fraction": 0.5, "eta_seconds": 61.0}}
    with JobView(console) as view:
        view.show(("job", job))
        view.show(("event", {"type": "metrics", "message": "", "data": {"epoch": 1, "train_loss": 0.5}}))
        view.show(("event", {"type": "checkpoint", "message": "saved", "data": {}}))
        view.show(("event", {"type": "message", "message": "hello [bold]", "data": {}}))
    assert sink.getvalue().splitlines() == ["   1  loss 0.500", "message hello [bold]"]


def test_in_a_terminal_there_is_a_bar_with_phase_and_time_left() -> None:
    sink = io.StringIO()
    job = {"status": "running", "progress": {"phase": "training", "epoch": 1, "epochs": 2, "fraction": 0.5, "eta_seconds": 61.0}}
    with JobView(Console(file=sink, width=100, force_terminal=True, color_system=None)) as view:
        view.show(("event", {"type": "metrics", "message": "", "data": {"epoch": 1, "validation_accuracy": 0.5}}))
        view.show(("job", job))
        view.show(("job", {**job, "status": "succeeded"}))
    text = sink.getvalue()
    assert "succeeded 1/2" in text
    assert "accuracy 50.0%" in text
    assert "100%" in text


def test_ids_stay_whole_in_a_narrow_terminal() -> None:
    sink = io.StringIO()
    rows = [("job_06h0z8rzaf3hzjmrdjw4", "a name that is rather long", "and another text beside it")]
    Console(file=sink, width=50, color_system=None).print(table_of(("id", "name", "note"), rows))
    assert rows[0][0] in sink.getvalue()
