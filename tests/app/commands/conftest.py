"""The command line as people and programs meet it: arguments in; exit status, standard output and standard error out."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from app.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command in this process, without a terminal."""
    for name in ("SYNESTHESIA_URL", "SYNESTHESIA_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["synesthesia", *arguments])
        capsys.readouterr()
        status: object = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code or 0
        captured = capsys.readouterr()
        assert isinstance(status, int)
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture
def remote(run: Run, live: tuple[str, int]) -> Run:
    """Run a command against the application behind a real socket."""
    url = "http://{}:{}".format(*live)

    def remote(*arguments: str) -> Outcome:
        return run("--url", url, *arguments)

    return remote
