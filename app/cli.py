"""`synesthesia`: the command line. Each command group is a module of app/commands; here they meet, and failures become exit statuses."""

import sys

import typer

from app.client import DEFAULT_URL, RefusedError, UnreachableError
from app.commands import datasets, jobs, models
from app.commands.options import ApiKey, Target, Url
from app.commands.output import REFUSED_EXIT, UNREACHABLE_EXIT, complain, complain_of_problem, complain_of_silence
from app.commands.predict import predict
from app.commands.service import api, serve, worker
from app.commands.transferability import transferability
from app.demo.command import demo
from models.errors import SynesthesiaError

cli = typer.Typer(
    name="synesthesia",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Teach a network that has learnt to see to listen.",
)
for command in (serve, api, worker, transferability, predict, demo):
    cli.command()(command)
for name, group in (("datasets", datasets.cli), ("jobs", jobs.cli), ("models", models.cli)):
    cli.add_typer(group, name=name)


@cli.callback()
def target(context: typer.Context, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Teach a network that has learnt to see to listen."""
    context.obj = Target(url, api_key)


def main() -> None:
    """Run a command. Exit status 0: done; 1: refused or failed; 2: a wrong command line; 3: no service answers."""
    try:
        cli()
    except RefusedError as error:
        complain_of_problem(error)
        sys.exit(REFUSED_EXIT)
    except UnreachableError as error:
        complain_of_silence(error)
        sys.exit(UNREACHABLE_EXIT)
    except (SynesthesiaError, ValueError, OSError) as error:
        complain(error)
        sys.exit(REFUSED_EXIT)


if __name__ == "__main__":
    main()
