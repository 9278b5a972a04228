"""`synesthesia keys` on a data directory, without a service and beside a running one."""

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from tests.app.commands.conftest import Run
from tests.app.conftest import wait_until
from worker.keys import hash_of, load_keys
from worker.settings import Settings

KEY = re.compile(r"syn_[A-Za-z0-9_-]{43}\n")


def test_it_prints_the_key_alone(run: Run, settings: Settings) -> None:
    outcome = run("keys", "create", "--scope", "write", "--name", "box", "--owner", "ann")
    assert (outcome.status, outcome.err) == (0, "")
    assert KEY.fullmatch(outcome.out)
    [caller] = [load_keys().callers[hash_of(outcome.out.strip().encode())]]
    assert (caller.scope, caller.view.owner) == ("write", "ann")


def test_on_a_data_directory_that_nobody_has_served(tmp_path: object) -> None:
    folder = f"{tmp_path}/new"
    command = [sys.executable, "-m", "app.cli", "keys", "create", "--scope", "admin", "--data-dir", folder]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert KEY.fullmatch(outcome.stdout)
    assert outcome.stderr == ""


def test_list_and_revoke(run: Run, settings: Settings) -> None:
    key = run("keys", "create", "--scope", "read").out.strip()
    [row] = json.loads(run("keys", "list", "--json").out)
    assert (row["scope"], row["owner"], row["revoked_at"]) == ("read", None, None)
    assert row["id"] in run("keys", "list").out
    assert json.loads(run("keys", "revoke", row["id"], "--json").out)["revoked_at"] is not None
    assert key not in run("keys", "list").out
    assert load_keys().callers == {}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("create",), 2, "--scope"),
        (("create", "--scope", "root"), 1, "one of read, write, admin"),
        (("create", "--scope", "read", "--owner", "x" * 101), 1, "owner"),
        (("revoke", "key_0"), 1, "there is no key"),
        (("revoke",), 2, "ID"),
    ],
)
def test_what_can_not_be(run: Run, settings: Settings, arguments: tuple[str, ...], status: int, said: str) -> None:
    outcome = run("keys", *arguments)
    assert (outcome.status, outcome.out) == (status, "")
    assert said in outcome.err


def test_a_key_that_is_made_closes_a_running_service(run: Run, client: TestClient) -> None:
    assert client.get("/jobs").status_code == 200
    key = run("keys", "create", "--scope", "read").out.strip()
    wait_until(lambda: client.get("/jobs").status_code == 401, seconds=3, what="the service to close")
    assert client.get("/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_it_lets_a_service_listen_beyond_loopback(run: Run, change_setting: Callable[..., Settings]) -> None:
    from app.exposure import check_exposure
    from models.errors import ConfigError

    settings = change_setting(host="0.0.0.0", auth="keys")
    with pytest.raises(ConfigError):
        check_exposure(settings)
    run("keys", "create", "--scope", "admin")
    check_exposure(settings)
