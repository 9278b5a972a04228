"""Options that several commands share, and the client that they describe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.environment import DEFAULT_URL

if TYPE_CHECKING:
    from app.client import Client

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
IdFlag = Annotated[bool, typer.Option("--id", help="Print the id alone, for a shell's variable.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most, newest first.")]
DataDir = Annotated[
    Path | None, typer.Option(envvar="SYNESTHESIA_DATA_DIR", help="Where everything is kept.", show_default="./data", file_okay=False)
]
Url = Annotated[str, typer.Option(envvar="SYNESTHESIA_URL", help="The service to speak to.")]
ApiKey = Annotated[str | None, typer.Option(envvar="SYNESTHESIA_API_KEY", help="The key to send.", show_default=False)]


@dataclass(frozen=True)
class Target:
    """Which service the commands speak to, and as whom."""

    url: str = DEFAULT_URL
    api_key: str | None = None


def client_of(context: typer.Context) -> "Client":
    """Return a client for the service that the command line named."""
    from app.client import Client  # noqa: PLC0415 - the list of commands needs no client

    target: Target = context.ensure_object(Target)
    return Client(target.url, target.api_key)
