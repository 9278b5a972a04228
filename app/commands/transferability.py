"""`synesthesia transferability`: which source to build on, before any training."""

from typing import Annotated

import typer
from rich.console import Group

from app.client import Json
from app.commands.options import JsonFlag, client_of
from app.commands.output import REFUSED_EXIT, details_of, emit, err, plain, table_of
from app.commands.progress import watch

_COLUMNS = ("rank", "candidate", "kind", "architecture", "k-NN", "random", "better?", "probe", "LogME", "H-score", "statistics", "until")
_BETTER = {True: "yes", False: "no, worse", None: ""}


def transferability(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="ds_… of sounds")],
    candidates: Annotated[
        list[str] | None,
        typer.Option("--candidates", "-c", help="Model id, alias, bundled, architecture or timm/<name>; may be repeated. Default: all."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rank sources for a dataset without training. Best first; exits 1 unless the ranking succeeds."""
    with client_of(context) as client:
        job = client.transferability(dataset, candidates or None)
        job = watch(client, str(job["id"]), quiet=as_json)
    if job["status"] != "succeeded":
        err.print(plain((job.get("error") or {}).get("message") or f"the ranking was {job['status']}"))
        raise typer.Exit(REFUSED_EXIT)
    emit(job["result"], as_json=as_json, table=_described(job["result"]))


def _described(result: Json) -> Group:
    facts = {name: result[name] for name in ("dataset", "clips", "labels", "held_out", "chance")}
    rows = [_row(candidate) for candidate in result["candidates"]]
    skipped = [[skipped["candidate"], skipped["message"]] for skipped in result["skipped"]]
    parts = [details_of(facts), table_of(_COLUMNS, rows)]
    return Group(*parts, table_of(("candidate", "left out because"), skipped)) if skipped else Group(*parts)


def _row(candidate: Json) -> list[object]:
    scores = candidate["scores"]
    name = candidate["candidate"] + (" (has heard these clips)" if candidate["has_seen_dataset"] else "")
    return [
        candidate["rank"], name, candidate["kind"], candidate["architecture"], f"{scores['knn']:.1%}", f"{candidate['random_knn']:.1%}",
        _BETTER[candidate["better_than_random"]], f"{scores['linear_probe']:.1%}", scores["logme"], scores["h_score"],
        candidate["statistics"], candidate["until"],
    ]  # fmt: skip
