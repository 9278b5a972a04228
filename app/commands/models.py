"""`synesthesia models`: what has been learnt."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group

from app.client import Json
from app.commands.options import JsonFlag, Limit, client_of
from app.commands.output import details_of, emit, err, plain, table_of
from app.commands.progress import bytes_bar

cli = typer.Typer(no_args_is_help=True, help="Look at what has been learnt, and take it away.")

_Model = Annotated[str, typer.Argument(help="mdl_… or an alias")]
_COLUMNS = ("id", "name", "modality", "architecture", "parameters", "accuracy", "aliases", "created_at")
_SUMMARY = (
    "id", "name", "aliases", "modality", "architecture", "parameters", "size_bytes", "labels", "dataset", "job", "base_model",
    "transfer", "features", "metrics", "sha256", "created_at",
)  # fmt: skip
_SCORES = ("precision", "recall", "f1", "support")


@cli.command("list")
def list_models(
    context: typer.Context,
    limit: Limit = 20,
    modality: Annotated[str | None, typer.Option(help="image or audio.")] = None,
    name: Annotated[str | None, typer.Option(help="Exactly this name.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List models, newest first."""
    with client_of(context) as client:
        rows = list(client.pages("/models", limit=limit, modality=modality, name=name))
    emit(rows, as_json=as_json, table=table_of(_COLUMNS, ([_cell(row, column) for column in _COLUMNS] for row in rows)))


@cli.command()
def show(context: typer.Context, model: _Model, as_json: JsonFlag = False) -> None:
    """Show one model, where it comes from, and how it did on each label."""
    with client_of(context) as client:
        found = client.get(f"/models/{model}")
        evaluation = client.get(f"/models/{model}/evaluation")
    emit({**found, "evaluation": evaluation}, as_json=as_json, table=_described(found, evaluation))


@cli.command()
def download(
    context: typer.Context,
    model: _Model,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: <model>.tar or <model>.onnx here.", dir_okay=False)
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Only the graph: waveform in, probabilities out.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Save a model: a tar of weights, description, ONNX graph and model card."""
    part, suffix = ("onnx", ".onnx") if onnx else ("artifact", ".tar")
    target = output or Path(model + suffix)
    with client_of(context) as client, bytes_bar("download", None, Console(quiet=True) if as_json else err) as on_bytes:
        size = client.download(f"/models/{model}/{part}", target, on_bytes=on_bytes)
    emit({"file": str(target), "size_bytes": size}, as_json=as_json, table=details_of({"file": str(target), "bytes": size}))


def _described(model: Json, evaluation: Json) -> Group:
    parts: list[Any] = [details_of({name: model.get(name) for name in _SUMMARY})]
    lineage = [[step.get(name) for name in ("model", "dataset", "modality", "architecture")] for step in model.get("lineage") or []]
    if lineage:
        parts.append(table_of(("model", "dataset", "modality", "architecture"), lineage, title="\nlineage"))
    sentence = (evaluation.get("transfer") or {}).get("sentence")
    if sentence and (model.get("transfer") or {}).get("shared_layers"):
        parts.append(plain(f"\n{sentence}"))
    for split, found in (evaluation.get("splits") or {}).items():
        low, high = found["interval_95"]
        title = f"\n{split}: accuracy {found['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}) on {found['n']} items"
        rows = ([label, *(scores.get(score) for score in _SCORES)] for label, scores in found["per_label"].items())
        parts.append(table_of(("label", *_SCORES), rows, title=title))
    return Group(*parts)


def _cell(row: Json, column: str) -> Any:
    if column == "accuracy":
        metrics = row.get("metrics") or {}
        return metrics.get("test_accuracy", metrics.get("validation_accuracy"))
    value = row.get(column)
    return ", ".join(value) if isinstance(value, list) else value
