"""`synesthesia backup`, `restore` and `gc`: on the data directory itself, beside a running service or without one."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.commands.options import DataDir, JsonFlag
from app.commands.output import REFUSED_EXIT, details_of, emit, table_of
from app.commands.progress import count_bar
from app.environment import export_options

_Force = Annotated[bool, typer.Option("--force", help="Move what the data directory holds aside, into a folder below it.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Remove nothing; list also what is too young to go.")]


def backup(
    target: Annotated[Path, typer.Argument(metavar="FOLDER_OR_TAR", help="A new folder, or a new file whose name ends in .tar.")],
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Save database, datasets and models while the service runs. Exits 1 where something that should be there is lost."""
    export_options(data_dir=data_dir)
    from worker.backup import back_up  # noqa: PLC0415 - the client's commands start faster without the database's imports

    with count_bar("saving", None) as progress:
        saved = back_up(target, progress)
    emit(asdict(saved), as_json=as_json, table=details_of({"saved": target, **asdict(saved)}))
    if saved.lost:
        raise typer.Exit(REFUSED_EXIT)


def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER_OR_TAR", exists=True, help="What `backup` made.")],
    force: _Force = False,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a backup back into an empty data directory; every file is checked. Exits 1 where something of it is lost."""
    export_options(data_dir=data_dir)
    from worker import restore as work  # noqa: PLC0415

    with count_bar("restoring", None) as progress:
        found = work.restore(source, progress, force=force)
    emit(asdict(found), as_json=as_json, table=details_of(asdict(found)))
    if found.lost:
        raise typer.Exit(REFUSED_EXIT)


def collect_garbage(dry_run: _DryRun = False, data_dir: DataDir = None, as_json: JsonFlag = False) -> None:
    """Remove blobs that nothing in the database names and that are old enough. A running service does so by itself, little by little."""
    export_options(data_dir=data_dir)
    from worker import collector  # noqa: PLC0415
    from worker.migrate import upgrade  # noqa: PLC0415
    from worker.settings import get_settings  # noqa: PLC0415

    upgrade()
    found = collector.strays(get_settings()) if dry_run else collector.collect(get_settings())
    rows = [asdict(stray) for stray in found]
    emit(rows, as_json=as_json, table=table_of(("key", "seconds", "due"), (list(row.values()) for row in rows)))
