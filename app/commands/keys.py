"""`synesthesia keys`: who may call. Works on the data directory and its database; no service has to run."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from app.commands.options import DataDir, JsonFlag
from app.commands.output import details_of, emit, table_of
from app.environment import export_options

cli = typer.Typer(no_args_is_help=True, help="Say who may call the service, and what for.")
_COLUMNS = ("id", "name", "scope", "owner", "created_at", "last_used_at", "revoked_at")


@cli.command()
def create(
    scope: Annotated[str, typer.Option(help="read: look and predict; write: make and delete what is the owner's too; admin: everything.")],
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    owner: Annotated[str, typer.Option(help="Whose things it sees and makes; without it, those of nobody.", show_default=False)] = "",
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, and nothing else. It is shown this once."""
    with _at_work(data_dir, "keys create"):
        from worker.keys import create_key  # noqa: PLC0415 - the client's commands start faster without the database's imports

        text, _ = create_key(scope, name=name, owner=owner)
    typer.echo(text)


@cli.command("list")
def list_keys(data_dir: DataDir = None, as_json: JsonFlag = False) -> None:
    """List all keys, newest first, revoked ones too."""
    with _at_work(data_dir, "keys list"):
        from worker import keys  # noqa: PLC0415

        rows = keys.list_keys()
    emit(rows, as_json=as_json, table=table_of(_COLUMNS, ([row[column] for column in _COLUMNS] for row in rows)))


@cli.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="key_…")], data_dir: DataDir = None, as_json: JsonFlag = False) -> None:
    """Let a key open nothing any more. A running service notices within two seconds."""
    with _at_work(data_dir, "keys revoke"):
        from worker.keys import revoke_key  # noqa: PLC0415

        key = revoke_key(key_id)
    emit(key, as_json=as_json, table=details_of(key))


@contextlib.contextmanager
def _at_work(data_dir: Path | None, action: str) -> Iterator[None]:
    """Have the database ready until the block ends, and let the audit log name the command line as the one who acts."""
    export_options(data_dir=data_dir)
    from worker.audit import Origin, done_by  # noqa: PLC0415
    from worker.migrate import upgrade  # noqa: PLC0415

    upgrade()
    with done_by(Origin("cli", "", action)):
        yield
