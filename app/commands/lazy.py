"""Commands that are imported when they are asked for: the help of one, or its run, does not wait for what the others need."""

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import Command, Context
    from typer._click.formatting import HelpFormatter


@dataclass(frozen=True)
class Late:
    """A command or a group of them: what the list of commands says of it, and where it is once somebody wants it."""

    help: str
    """the first paragraph of its own help; a test compares them"""
    load: Callable[[], typer.Typer | Callable[..., None]]


class LazyCommands(MutableMapping[str, "Command"]):
    """Commands by name, in the order of their table, each imported when it is looked up; further ones can be added."""

    def __init__(self, table: dict[str, Late], more: MutableMapping[str, "Command"]) -> None:
        """`more` are commands that are there already."""
        self._table = table
        self._loaded = dict(more)

    def __getitem__(self, name: str) -> "Command":
        if name not in self._loaded:
            self._loaded[name] = _command_of(name, self._table[name].load())
        return self._loaded[name]

    def __setitem__(self, name: str, command: "Command") -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._table, **self._loaded})

    def __len__(self) -> int:
        return len({**self._table, **self._loaded})


class LazyGroup(TyperGroup):
    """A group whose list of commands is written without importing them. Subclasses give the table."""

    table: ClassVar[dict[str, Late]]

    def __init__(self, **attributes: Any) -> None:
        """Take what typer gives."""
        super().__init__(**attributes)
        self.commands = LazyCommands(self.table, self.commands)
        self._listing = False

    def list_commands(self, ctx: "Context") -> list[str]:  # noqa: ARG002 - the library's signature
        """Return the names in the table's order."""
        return list(self.commands)

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        """Return a command; while a list of commands is written, one that only knows what it is for."""
        if self._listing and cmd_name in self.table:
            return TyperCommand(cmd_name, help=self.table[cmd_name].help)
        return super().get_command(ctx, cmd_name)

    def format_help(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write the help of the group."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def _command_of(name: str, found: typer.Typer | Callable[..., None]) -> "Command":
    """Return a group as it is, and a function as the one command that it is."""
    if isinstance(found, typer.Typer):
        found.info.name = name
        return typer.main.get_command(found)
    alone = typer.Typer(add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)
