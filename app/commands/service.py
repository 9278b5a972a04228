"""`synesthesia serve | api | worker`: the service itself, whole or in parts."""

import gc
from typing import Annotated

import typer

from app.commands.options import DataDir
from app.environment import export_options

_Host = Annotated[str | None, typer.Option(envvar="SYNESTHESIA_HOST", help="Address to listen on.", show_default="127.0.0.1")]
_Port = Annotated[int | None, typer.Option(envvar="SYNESTHESIA_PORT", min=0, max=65535, help="0: any free one.", show_default="8000")]


def serve(
    host: _Host = None,
    port: _Port = None,
    data_dir: DataDir = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="API processes; as many as there are cores answer most.")] = 1,
) -> None:
    """Run the whole service here: API, workers and, unless REDIS_URL is set, a broker. Ctrl-C ends all of it."""
    export_options(host=host, port=port, data_dir=data_dir, api_processes=workers)
    from app.commands.output import err, plain  # noqa: PLC0415 - each command imports what it needs: `api` is to answer soon
    from app.serve import serve as run  # noqa: PLC0415
    from worker.settings import get_settings  # noqa: PLC0415

    raise typer.Exit(run(get_settings(), workers=workers, report=lambda sentence: err.print(plain(sentence), soft_wrap=True)))


def api(host: _Host = None, port: _Port = None, data_dir: DataDir = None) -> None:
    """Run one API process alone, for a deployment: DATABASE_URL, REDIS_URL and BLOB_URL say where the rest is."""
    gc.disable()  # until it has started: see app/server.py
    export_options(host=host, port=port, data_dir=data_dir)
    from app.api import run_api  # noqa: PLC0415
    from worker.migrate import upgrade  # noqa: PLC0415
    from worker.settings import get_settings  # noqa: PLC0415

    upgrade()
    run_api(get_settings())


def worker(
    queues: Annotated[str, typer.Option(help="Comma-separated: train, data.")] = "train,data",
    name: Annotated[str, typer.Option(help="Told apart from other workers of this host.")] = "worker",
    data_dir: DataDir = None,
) -> None:
    """Run one worker alone, for a deployment; it does one job at a time."""
    export_options(data_dir=data_dir)
    from worker.celery_app import run_worker  # noqa: PLC0415
    from worker.keeper import start_beside  # noqa: PLC0415
    from worker.migrate import upgrade  # noqa: PLC0415

    upgrade()
    keeper = start_beside()
    try:
        run_worker(queues, name)
    finally:
        keeper.terminate()
        keeper.wait()
