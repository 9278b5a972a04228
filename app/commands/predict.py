"""`synesthesia predict FILE…`: what a model hears."""

from pathlib import Path
from typing import Annotated

import typer

from app.client import Json, RefusedError
from app.commands.options import JsonFlag, client_of
from app.commands.output import REFUSED_EXIT, complain_of_problem, emit_line, err, plain, show, table_of

_COLUMNS = ("file", "label", "probability", "next best", "seconds", "ms", "warnings")


def predict(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Sounds: wav, flac, ogg, mp3, m4a, webm.", exists=True, dir_okay=False)],
    model: Annotated[str | None, typer.Option(help="Model id or alias; default: the alias `default`.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many labels to give.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Say what is heard in each file. With --json: one object a line. A refused file does not stop the rest; the exit status is 1 then."""
    refused = 0
    rows: list[Json] = []
    with client_of(context) as client:
        for path in files:
            try:
                found = {"file": str(path), **client.predict(path, model=model, top_k=top_k)}
            except RefusedError as error:
                refused += 1
                err.print(plain(path))
                complain_of_problem(error)
                found = {"file": str(path), "error": {"status": error.status, **error.problem}}
            if as_json:
                emit_line(found)
            elif "error" not in found:
                rows.append(found)
    if rows:
        show(table_of(_COLUMNS, (_cells(row) for row in rows)))
    if refused:
        raise typer.Exit(REFUSED_EXIT)


def _cells(found: Json) -> list[object]:
    best, *others = found["top_k"]
    heard = found["label"] if found["label"] is not None else f"({best['label']}, rejected)"
    next_best = ", ".join(f"{other['label']} {other['probability']:.1%}" for other in others[:2])
    milliseconds = (found.get("timings_ms") or {}).get("total")
    warnings = ", ".join(str(warning) for warning in found.get("warnings") or [])
    return [found["file"], heard, f"{found['probability']:.1%}", next_best, found["duration_seconds"], milliseconds, warnings]
