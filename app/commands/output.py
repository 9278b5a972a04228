"""What commands print: one JSON document on standard output where --json is given, else tables; everything else on standard error."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from app.client import RefusedError, UnreachableError

out = Console()
err = Console(stderr=True)

_PIPE_COLUMNS = 400
_WHOLE = ("id", "file")  # columns that people copy from: the others give way first

REFUSED_EXIT = 1  # the service said no, or the job or dataset failed
UNREACHABLE_EXIT = 3  # 2 is what a wrong command line exits with


def emit(payload: Any, *, as_json: bool, table: RenderableType) -> None:
    """Print one document: `payload` for programs, `table` for people."""
    if as_json:
        emit_line(payload)
    else:
        show(table)


def emit_made(made: dict[str, Any], *, as_json: bool, only_id: bool, table: RenderableType) -> None:
    """Print what was made: as `emit` does, or by its id."""
    if only_id:
        typer.echo(made["id"])
    else:
        emit(made, as_json=as_json, table=table)


def show(table: RenderableType) -> None:
    """Print a table on standard output: as wide as the terminal, and elsewhere wide enough that a pipe gets whole ids and names."""
    if not out.is_terminal:
        out.width = _PIPE_COLUMNS
    out.print(table)


def emit_line(payload: Any) -> None:
    """Print `payload` as one line of JSON."""
    typer.echo(json.dumps(payload, ensure_ascii=False))


def plain(value: Any) -> Text:
    """Return a cell that shows foreign text as it is: no markup, no control character."""
    shown = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return Text("".join(character if character.isprintable() else "�" for character in shown))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Table:
    """Return a table of foreign values."""
    headers = [Column(name, no_wrap=name in _WHOLE) for name in columns]
    table = Table(*headers, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(plain(value) for value in row))
    return table


def details_of(values: Mapping[str, Any]) -> Table:
    """Return names and values under one another, without those that are empty."""
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        if value not in (None, "", [], {}):
            table.add_row(Text(name, style="bold"), plain(_flat(value)))
    return table


def complain_of(error: Exception) -> int:
    """Print a failure; return the exit status that tells its kind."""
    if isinstance(error, RefusedError):
        complain_of_problem(error)
    elif isinstance(error, UnreachableError):
        complain_of_silence(error)
        return UNREACHABLE_EXIT
    else:
        complain(error)
    return REFUSED_EXIT


def complain_of_problem(error: RefusedError) -> None:
    """Print a problem: title, detail, hint, and each field at fault."""
    problem = error.problem
    err.print(Text.assemble(("error ", "bold red"), (str(problem.get("title", "Refused")), "bold"), f" ({error.status})"))
    for name in ("detail", "hint"):
        if problem.get(name):
            err.print(Text.assemble("  ", plain(problem[name])), soft_wrap=True)
    for fault in problem.get("errors") or []:
        err.print(Text.assemble("  ", (str(fault.get("pointer", "")), "cyan"), " ", plain(fault.get("detail"))), soft_wrap=True)


def complain_of_silence(error: UnreachableError) -> None:
    """Print that nothing answers, and how to start what should."""
    err.print(Text.assemble(("error ", "bold red"), plain(error)), soft_wrap=True)
    err.print("  start the service with `synesthesia serve`, or point SYNESTHESIA_URL (or --url) at a running one", soft_wrap=True)


def complain(error: Exception) -> None:
    """Print a failure of this machine's own."""
    err.print(Text.assemble(("error ", "bold red"), plain(error)), soft_wrap=True)
    hint = getattr(error, "hint", None)
    if hint:
        err.print(Text.assemble("  ", plain(hint)), soft_wrap=True)


def _flat(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list):
        return ", ".join(str(_flat(inner)) for inner in value)
    return f"{value:.4g}" if isinstance(value, float) else value
