"""`synesthesia demo`: the whole method over HTTP, on data made on the spot, with every step as a curl line to repeat it."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.rule import Rule

from app.client import Client
from app.commands.output import err, out, plain
from app.demo.service import running_service
from app.demo.story import RULE_WIDTH, Story

_Folder = Annotated[Path, typer.Option(help="Where archives, models and the service's data go.", file_okay=False)]


def demo(folder: _Folder = Path("demo-data")) -> None:
    """Learn digits from pictures, let the same layers learn to hear spoken digits, and see whether that paid."""
    began = time.monotonic()
    run = _new_folder(folder)
    with running_service(run / "service") as url, Client(url) as client:
        err.print(plain(f"a service of the demo's own answers at {url}; its documentation is at {url}/docs while the demo runs"))
        Story(client, run).tell()
    out.print(Rule(style="dim"), width=min(out.width, RULE_WIDTH))
    out.print(plain(f"everything is in {run.absolute()}; nothing is left running; {time.monotonic() - began:.0f} s in all"))
    out.print(plain(f"to go on with it: synesthesia serve --data-dir {run / 'service'}"))


def _new_folder(folder: Path) -> Path:
    """Return a fresh folder, so that a second demo begins from nothing and the first one's files stay."""
    run = folder / time.strftime("%Y-%m-%d-%H%M%S")
    (run / "service").mkdir(parents=True)
    return run
