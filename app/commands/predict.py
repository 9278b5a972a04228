"""`synesthesia predict FILE…`: what a model hears, in each file of an archive too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.client import Client, Json, RefusedError
from app.commands.options import JsonFlag, client_of
from app.commands.output import REFUSED_EXIT, complain_of_problem, emit_line, err, plain, show, table_of
from app.media import archive_type

_COLUMNS = ("file", "label", "probability", "next best", "seconds", "ms", "warnings")


def predict(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(help="Sounds: wav, flac, ogg, mp3, m4a, webm; or archives of them.", exists=True, dir_okay=False)
    ],
    model: Annotated[str | None, typer.Option(help="Model id or alias; default: the alias `default`.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many labels to give.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Say what is heard in each file. With --json: one object a line. A refused file does not stop the rest; the exit status is 1 then."""
    refused = 0
    rows: list[Json] = []
    with client_of(context) as client:
        for path in files:
            for found in _heard(client, path, model=model, top_k=top_k):
                if "error" in found:
                    refused += 1
                    err.print(plain(found["file"]))
                    complain_of_problem(RefusedError(found["error"]["status"], found["error"]))
                if as_json:
                    emit_line(found)
                elif "error" not in found:
                    rows.append(found)
    if rows:
        show(table_of(_COLUMNS, (_cells(row) for row in rows)))
    if refused:
        raise typer.Exit(REFUSED_EXIT)


def _heard(client: Client, path: Path, **params: Any) -> Iterator[Json]:
    """Yield what is heard in a file, or in each file of an archive, or the problem that it met."""
    try:
        if _is_archive(path):
            for row in client.predict_archive(path, **params):
                yield {"file": f"{path}/{row['name']}", **row}
        else:
            yield {"file": str(path), **client.predict(path, **params)}
    except RefusedError as error:
        yield {"file": str(path), "error": {"status": error.status, **error.problem}}


def _is_archive(path: Path) -> bool:
    try:
        archive_type(path)
    except ValueError:
        return False
    return True


def _cells(found: Json) -> list[object]:
    best, *others = found["top_k"]
    heard = found["label"] if found["label"] is not None else f"({best['label']}, rejected)"
    next_best = ", ".join(f"{other['label']} {other['probability']:.1%}" for other in others[:2])
    milliseconds = (found.get("timings_ms") or {}).get("total")
    warnings = ", ".join(str(warning) for warning in found.get("warnings") or [])
    return [found["file"], heard, f"{found['probability']:.1%}", next_best, found["duration_seconds"], milliseconds, warnings]
