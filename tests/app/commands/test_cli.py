import socket
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
import typer

from app.cli import _Commands, cli
from tests.app.commands.conftest import Run

ROOT = typer.main.get_command(cli)


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(ROOT))
CLIENT_COMMANDS = {
    ("datasets", "list"): (),
    ("datasets", "show"): ("ds_1",),
    ("datasets", "generate"): (),
    ("jobs", "create"): ("ds_1",),
    ("jobs", "list"): (),
    ("jobs", "show"): ("job_1",),
    ("jobs", "watch"): ("job_1",),
    ("jobs", "cancel"): ("job_1",),
    ("models", "list"): (),
    ("models", "show"): ("mdl_1",),
    ("models", "download"): ("mdl_1",),
    ("watch",): ("job_1",),
    ("compare",): ("mdl_1", "mdl_2"),
    ("report",): ("job_1",),
    ("export",): ("job_1", "runs", "--to", "tensorboard"),
}


def test_the_commands_are_those_that_people_were_told() -> None:
    groups = {path[0] for path in COMMANDS if path}
    assert {"serve", "api", "worker", "predict", "demo", "datasets", "jobs", "models"} <= groups
    assert {"watch", "compare", "report", "export", "record", "doctor"} <= groups


@pytest.mark.parametrize("name", _Commands.table)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    said = (COMMANDS[(name,)].help or "").strip().partition("\n\n")[0].replace("\n", " ")
    assert _Commands.table[name].help == said


def test_completion_can_be_installed(run: Run) -> None:
    assert "--install-completion" in run("--help").out


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Run, path: tuple[str, ...]) -> None:
    outcome = run(*path, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert "Usage: synesthesia" in outcome.out
    command = COMMANDS[path]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in outcome.out


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if hasattr(command, "commands")], ids=" ".join)
def test_a_group_alone_shows_its_commands(run: Run, path: tuple[str, ...]) -> None:
    outcome = run(*path)
    assert "Commands" in outcome.out + outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("jobs", "nonsense"),
        ("jobs", "show"),
        ("jobs", "list", "--limit", "0"),
        ("jobs", "list", "--limit", "x"),
        ("jobs", "create", "ds_1", "--metadata", "nonsense"),
        ("jobs", "create", "ds_1", "--set", "=1"),
        ("jobs", "create", "ds_1", "--set", "seed.x=1", "--seed", "1"),
        ("serve", "--workers", "0"),
        ("serve", "--port", "70000"),
        ("datasets", "create", "/nowhere/at/all.zip"),
        ("predict",),
        ("predict", "/nowhere/a.wav"),
        ("export", "job_1", "runs"),
        ("compare", "mdl_1"),
        ("record", "../yes"),
        ("--nonsense",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err
    assert outcome.err


@pytest.mark.parametrize("path", CLIENT_COMMANDS, ids=" ".join)
def test_without_a_service_they_exit_with_3_and_say_what_to_do(run: Run, path: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    outcome = run("--url", f"http://127.0.0.1:{port}", *path, *CLIENT_COMMANDS[path])
    assert (outcome.status, outcome.out) == (3, "")
    assert f"no answer from http://127.0.0.1:{port}" in outcome.err
    assert "synesthesia serve" in outcome.err


@pytest.mark.parametrize("path", [path for path in CLIENT_COMMANDS if CLIENT_COMMANDS[path]], ids=" ".join)
def test_what_the_service_refuses_exits_with_1(remote: Run, path: tuple[str, ...]) -> None:
    outcome = remote(*path, *CLIENT_COMMANDS[path])
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("error No such")
    assert "(404)" in outcome.err


def test_every_client_command_is_covered() -> None:
    leaves = {
        path
        for path, command in COMMANDS.items()
        if path and path[0] in ("datasets", "jobs", "models", "watch", "compare", "report", "export") and not hasattr(command, "commands")
    }
    assert leaves == CLIENT_COMMANDS.keys() | {("datasets", "create")}


def test_url_and_key_come_from_the_environment(run: Run, live: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHESIA_URL", "http://{}:{}".format(*live))
    assert run("jobs", "list").status == 0


def test_serving_to_strangers_without_a_key_exits_with_1() -> None:
    command = [sys.executable, "-m", "app.cli", "serve", "--host", "0.0.0.0", "--data-dir", "/nonexistent/x"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "there is no key" in outcome.stderr
    assert "`synesthesia keys create --scope admin` makes a key" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_setting_that_makes_no_sense_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHESIA_AUTH", "perhaps")
    outcome = subprocess.run([sys.executable, "-m", "app.cli", "serve"], capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 1
    assert "auth" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_help_is_quick() -> None:
    """The client's commands must not import what only the service needs."""
    heavy = ("torch", "fastapi", "celery", "sqlalchemy", "onnxruntime", "uvicorn", "numpy", "pydantic", "httpx2", "PIL")
    script = f"import app.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"
