"""`synesthesia datasets`: upload, generate, list, show."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group

from app.client import Client, Json
from app.commands.options import IdFlag, JsonFlag, Limit, client_of
from app.commands.output import REFUSED_EXIT, details_of, emit, emit_made, err, plain, table_of
from app.commands.progress import bytes_bar, count_bar
from app.media import folder_files, pack_folder
from models.formula.generator import GeneratorName

cli = typer.Typer(no_args_is_help=True, help="Upload pictures and sounds or have pictures drawn, and look at what became of them.")

_SHOWN_REJECTIONS = 10
_SUMMARY = (
    "id",
    "name",
    "status",
    "modality",
    "labels",
    "items",
    "rejected",
    "splits",
    "groups",
    "duration_seconds",
    "size_bytes",
    "created_at",
)


@cli.command()
def create(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A zip, tar or tar.gz, or a folder, which is packed first.", exists=True)],
    name: Annotated[str | None, typer.Option(help="Default: the file's or folder's name.")] = None,
    modality: Annotated[str | None, typer.Option(help="image or audio; default: found from the files.")] = None,
    parent: Annotated[str | None, typer.Option(help="A dataset to extend; a new one comes out.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until every file has been read.")] = True,
    only_id: IdFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Upload a dataset: one folder a label, or train/validation/test with one folder a label each, or a metadata.csv."""
    with client_of(context) as client:
        dataset = upload(client, path, quiet=as_json, name=name, modality=modality, parent=parent)
        if wait:
            dataset = wait_for(client, str(dataset["id"]), quiet=as_json)
        emit_made(dataset, as_json=as_json, only_id=only_id, table=described(client, dataset))
    if dataset["status"] == "failed":
        raise typer.Exit(REFUSED_EXIT)


@cli.command()
def generate(
    context: typer.Context,
    labels: Annotated[int, typer.Option(min=2, help="How many kinds of pictures; each is a random formula.")] = 1000,
    items_per_label: Annotated[int, typer.Option(min=1, help="Pictures of each kind.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same numbers and seed draw the same pictures.")] = 0,
    generator: Annotated[GeneratorName, typer.Option(help="The family of formulas; mixed: all in turn.")] = "fractals",
    image_size: Annotated[int, typer.Option(min=16, help="Pixels a side.")] = 32,
    name: Annotated[str | None, typer.Option(help="Default: generator and numbers.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until every picture has been drawn.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Have a dataset of pictures drawn by formula: something to learn to see on that needs no files."""
    with client_of(context) as client:
        dataset = client.generate_dataset(
            generator, labels=labels, items_per_label=items_per_label, seed=seed, image_size=image_size, name=name
        )  # fmt: skip
        if wait:
            dataset = wait_for(client, str(dataset["id"]), quiet=as_json, title="draw")
        emit(dataset, as_json=as_json, table=described(client, dataset))
    if dataset["status"] == "failed":
        raise typer.Exit(REFUSED_EXIT)


@cli.command("list")
def list_datasets(context: typer.Context, limit: Limit = 20, as_json: JsonFlag = False) -> None:
    """List datasets, newest first."""
    with client_of(context) as client:
        rows = list(client.pages("/datasets", limit=limit))
    columns = ("id", "name", "modality", "status", "items", "labels", "created_at")
    table = table_of(columns, ([_count(row.get(column)) for column in columns] for row in rows))
    emit(rows, as_json=as_json, table=table)


@cli.command()
def show(context: typer.Context, dataset: Annotated[str, typer.Argument(help="ds_…")], as_json: JsonFlag = False) -> None:
    """Show one dataset: labels, splits, warnings, and which files were rejected and why."""
    with client_of(context) as client:
        found = client.get(f"/datasets/{dataset}")
        emit(found, as_json=as_json, table=described(client, found))


def upload(client: Client, path: Path, *, quiet: bool = False, name: str | None = None, **fields: str | None) -> Json:
    """Return the dataset as it begins: an archive, or a folder that is packed first, sent with a bar. `fields` are those of the form."""
    with archive_of(path, quiet=quiet) as archive, bytes_bar("upload", archive.stat().st_size, _console(quiet=quiet)) as on_bytes:
        name = name or path.resolve().name.removesuffix(".gz").removesuffix(".tar").removesuffix(".zip")
        return client.upload_dataset(archive, on_bytes=on_bytes, name=name, **fields)


@contextlib.contextmanager
def archive_of(path: Path, *, quiet: bool = False) -> Iterator[Path]:
    """Give an archive for `path`: itself, or a temporary zip of the folder. Raises ValueError for an empty folder."""
    if path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="synesthesia-") as folder:
        archive = Path(folder) / "dataset.zip"
        total = len(folder_files(path))
        done = 0
        with count_bar("pack", total, _console(quiet=quiet)) as on_count:

            def on_file() -> None:
                nonlocal done
                done += 1
                on_count(done, total)

            pack_folder(path, archive, on_file=on_file)
        yield archive


def wait_for(client: Client, dataset_id: str, *, quiet: bool = False, title: str = "read") -> Json:
    """Return the dataset once it is ready or failed, with a bar of files read (or pictures drawn) meanwhile."""
    with count_bar(title, None, _console(quiet=quiet)) as on_count:

        def on_change(dataset: Json) -> None:
            progress = dataset.get("progress") or {}
            on_count(int(progress.get("done") or 0), progress.get("total"))

        return client.wait_dataset(dataset_id, on_change=on_change)


def described(client: Client, dataset: Json) -> Group:
    """Return what people want to see of a dataset: what is in it, and what was left out and why."""
    parts: list[Any] = [details_of({name: dataset.get(name) for name in _SUMMARY})]
    parts += [plain(f"warning: {_sentence(warning)}") for warning in dataset.get("warnings") or []]
    if dataset.get("error"):
        parts.append(plain(f"failed: {_sentence(dataset['error'])}"))
    if dataset.get("rejected"):
        rows = client.pages(f"/datasets/{dataset['id']}/items", limit=_SHOWN_REJECTIONS, status="rejected")
        cells = [(row["file_name"], ", ".join(_sentence(reason) for reason in row["reasons"])) for row in rows]
        parts.append(table_of(("rejected file", "why"), cells))
    return Group(*parts)


def _sentence(value: Any) -> str:
    return str(value.get("message") or value.get("detail") or value.get("code") or value) if isinstance(value, dict) else str(value)


def _count(value: Any) -> Any:
    return len(value) if isinstance(value, list) else value


def _console(*, quiet: bool) -> Console:
    return Console(quiet=True) if quiet else err
