"""`synesthesia`: the command line. Commands are functions and groups in app/commands; here they meet, and failures become exit statuses.

Nothing is imported before it is needed: a command line that takes seconds to answer is one that nobody likes to use.
"""

import sys
from importlib import import_module
from typing import ClassVar

import typer

from app.commands.lazy import Late, LazyGroup
from app.commands.options import ApiKey, Target, Url
from app.environment import DEFAULT_URL


class _Commands(LazyGroup):
    """In the order of `--help`. The first paragraph of each command's help stands here too."""

    table: ClassVar[dict[str, Late]] = {
        "serve": Late(
            "Run the whole service here: API, workers and, unless REDIS_URL is set, a broker. Ctrl-C ends all of it.",
            lambda: import_module("app.commands.service").serve,
        ),
        "api": Late(
            "Run one API process alone, for a deployment: DATABASE_URL, REDIS_URL and BLOB_URL say where the rest is.",
            lambda: import_module("app.commands.service").api,
        ),
        "worker": Late(
            "Run one worker alone, for a deployment; it does one job at a time.", lambda: import_module("app.commands.service").worker
        ),
        "doctor": Late(
            "Say what this machine has, what it lacks, and what to do about that.", lambda: import_module("app.commands.doctor").doctor
        ),
        "train": Late(
            "Upload a folder, train on it and wait for the model: `datasets create` and `jobs create --follow` in one.",
            lambda: import_module("app.commands.jobs").train,
        ),
        "watch": Late(
            "Watch jobs learn: curves, a bar and the time left of each, live.", lambda: import_module("app.commands.watch").watch
        ),
        "compare": Late(
            "Put two models, or two jobs, side by side, and say whether they can be told apart.",
            lambda: import_module("app.commands.compare").compare,
        ),
        "report": Late(
            "Write all that is known of a job or a model into one HTML file, plots and all.",
            lambda: import_module("app.commands.report").report,
        ),
        "export": Late("Hand a job's metrics to TensorBoard or MLflow.", lambda: import_module("app.commands.export").export),
        "transferability": Late(
            "Rank sources for a dataset without training. Best first; exits 1 unless the ranking succeeds.",
            lambda: import_module("app.commands.transferability").transferability,
        ),
        "record": Late(
            "Record clips from the microphone, label by label, into a folder that `datasets create` takes.",
            lambda: import_module("app.commands.record").record,
        ),
        "predict": Late(
            "Say what is heard in each file. With --json: one object a line. A refused file does not stop the rest; "
            "the exit status is 1 then.",
            lambda: import_module("app.commands.predict").predict,
        ),
        "demo": Late(
            "Learn digits from pictures, let the same layers learn to hear spoken digits, and see whether that paid.",
            lambda: import_module("app.demo.command").demo,
        ),
        "datasets": Late(
            "Upload pictures and sounds or have pictures drawn, and look at what became of them.",
            lambda: import_module("app.commands.datasets").cli,
        ),
        "jobs": Late("Train: start jobs, follow them, end them.", lambda: import_module("app.commands.jobs").cli),
        "models": Late("Look at what has been learnt, and take it away.", lambda: import_module("app.commands.models").cli),
        "backup": Late(
            "Save database, datasets and models while the service runs. Exits 1 where something that should be there is lost.",
            lambda: import_module("app.commands.upkeep").backup,
        ),
        "restore": Late(
            "Bring a backup back into an empty data directory; every file is checked. Exits 1 where something of it is lost.",
            lambda: import_module("app.commands.upkeep").restore,
        ),
        "gc": Late(
            "Remove blobs that nothing in the database names and that are old enough. A running service does so by itself, little by "
            "little.",
            lambda: import_module("app.commands.upkeep").collect_garbage,
        ),
        "keys": Late("Say who may call the service, and what for.", lambda: import_module("app.commands.keys").cli),
    }


cli = typer.Typer(
    name="synesthesia",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Teach a network that has learnt to see to listen.",
)


@cli.callback()
def target(context: typer.Context, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Teach a network that has learnt to see to listen."""
    context.obj = Target(url, api_key)


def main() -> None:
    """Run a command. Exit status 0: done; 1: refused or failed; 2: a wrong command line; 3: no service answers."""
    try:
        cli()
    except _expected() as error:
        sys.exit(import_module("app.commands.output").complain_of(error))


def _expected() -> tuple[type[Exception], ...]:
    """Return what a command may fail with. Called, as the clause is read, when something has been raised, and not before."""
    from app.client import RefusedError, UnreachableError  # noqa: PLC0415
    from models.errors import SynesthesiaError  # noqa: PLC0415

    return RefusedError, UnreachableError, SynesthesiaError, ValueError, OSError


if __name__ == "__main__":
    main()
