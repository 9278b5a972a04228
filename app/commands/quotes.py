"""A quote as people read it: what the job would take, then stage by stage, then what to look out for."""

from typing import Any

from rich.console import Group

from app.client import Json
from app.commands.output import details_of, plain, table_of

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def described_quote(quote: Json) -> Group:
    """Return a quote as tables."""
    shown = {
        "takes": _span(quote["estimated_seconds"]),
        "steps": quote["steps"],
        "parameters": f"{quote['trainable_parameters']:,} of {quote['total_parameters']:,} are trained",
        "memory": f"{_size(quote['peak_memory_bytes'])} on {quote['device']}",
        "disk": _size(quote["disk_bytes"]),
        "hyperparameters": quote["resolved"]["hyperparameters"],
        "transfer": quote["resolved"]["transfer"],
        "base_model": quote["resolved"]["base_model"],
    }
    rows = ([stage["name"], stage["steps"] or None, _span(stage["seconds"])] for stage in quote["stages"])
    parts: list[Any] = [details_of(shown), table_of(("stage", "steps", "seconds"), rows, title="\nstages")]
    return Group(*parts, *(plain(f"warning: {warning}") for warning in quote["warnings"]))


def _span(seconds: dict[str, float]) -> str:
    return f"{seconds['expected']:.1f} s ({seconds['low']:.1f} to {seconds['high']:.1f})"


def _size(count: float) -> str:
    place = 0
    while count >= 1024 and place < len(_UNITS) - 1:
        count, place = count / 1024, place + 1
    return f"{count:.1f} {_UNITS[place]}"
