"""A command is imported when it is asked for, once, and not for the list of commands."""

import pytest
import typer
from typer.testing import CliRunner

from app.commands.lazy import Late, LazyCommands, LazyGroup

LOADED: list[str] = []


def _late() -> typer.Typer:
    LOADED.append("late")
    group = typer.Typer(help="Of things.")

    @group.callback()
    def things() -> None:
        """Of things."""

    @group.command()
    def show() -> None:
        """Show one."""
        typer.echo("shown")

    return group


def _single() -> None:
    """Do it."""
    typer.echo("done")


class _Group(LazyGroup):
    table = {"things": Late("Of things.", _late), "single": Late("Do it.", lambda: _single)}  # noqa: RUF012 - for this file alone


@pytest.fixture
def app() -> typer.Typer:
    LOADED.clear()
    cli = typer.Typer(cls=_Group, no_args_is_help=True)

    @cli.callback()
    def root() -> None:
        """All."""

    @cli.command()
    def eager() -> None:
        """Is there already."""
        typer.echo("eager")

    return cli


def test_the_list_imports_nothing(app: typer.Typer) -> None:
    found = CliRunner().invoke(app, ["--help"])
    assert found.exit_code == 0
    assert LOADED == []
    for text in ("Of things.", "Do it.", "Is there already."):
        assert text in found.output


@pytest.mark.parametrize(("words", "said"), [(["things", "show"], "shown"), (["single"], "done"), (["eager"], "eager")])
def test_each_runs(app: typer.Typer, words: list[str], said: str) -> None:
    found = CliRunner().invoke(app, words)
    assert (found.exit_code, found.output.strip()) == (0, said)
    assert (["late"] if words[0] == "things" else []) == LOADED


def test_what_is_not_there_is_refused(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2


def test_commands_are_a_mapping() -> None:
    LOADED.clear()
    commands = LazyCommands(_Group.table, {})
    assert (list(commands), len(commands)) == (["things", "single"], 2)
    assert commands["things"] is commands["things"]
    assert LOADED == ["late"]
    commands["more"] = commands["single"]
    assert len(commands) == 3
    del commands["more"]
    assert list(commands) == ["things", "single"]
