"""What is deployed, held against the code: settings, commands, queues, limits. Docker itself is not needed."""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from typer.main import get_command

from worker.celery_app import QUEUES
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "synesthesia"}
WORKERS = {name: service for name, service in OURS.items() if service["command"][0] == "worker"}
COMPOSE_ONLY = {"POSTGRES_PASSWORD", "TORCH_INDEX_URL"}
HOLDERS = {"POSTGRES_PASSWORD": "postgres", "SYNESTHESIA_API_KEY": "api"}  # secret → the service that gets it under its own name
SECRETS = set(HOLDERS)
GIVEN = {"POSTGRES_PASSWORD": "p4ssw0rd", "SYNESTHESIA_API_KEY": "k3y"}
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rule>:[?-])?(?P<rest>[^}]*)\}")
_ASSIGNMENT = re.compile(r"^(?P<commented># )?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)$", re.MULTILINE)


def setting_names() -> dict[str, str]:
    """Environment name → field."""
    names = {}
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names[str(alias.choices[1]) if isinstance(alias, AliasChoices) else f"SYNESTHESIA_{field.upper()}"] = field
    return names


def example() -> dict[str, tuple[bool, str]]:
    """Name → (whether its line is active, value) of .env.example."""
    lines = _ASSIGNMENT.finditer((ROOT / ".env.example").read_text())
    return {line["name"]: (line["commented"] is None, line["value"]) for line in lines}


def interpolated(text: str, given: dict[str, str]) -> str:
    """What compose makes of ${…}. Raises LookupError where a variable is required and not given."""

    def value(match: re.Match[str]) -> str:
        if given.get(match["name"]):
            return given[match["name"]]
        if match["rule"] == ":?":
            raise LookupError(match["rest"])
        return match["rest"] if match["rule"] == ":-" else ""

    return _VARIABLE.sub(value, text)


def environment_of(service: str, given: dict[str, str] = GIVEN) -> dict[str, str]:
    return {name: interpolated(str(value), given) for name, value in SERVICES[service]["environment"].items()}


def seconds(text: str) -> float:
    assert re.fullmatch(r"\d+s", text), text
    return float(text[:-1])


def dockerfile() -> list[tuple[str, str]]:
    """Instructions with their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]


def last_stage() -> dict[str, str]:
    """Instruction → argument of the stage that becomes the image; the last one where there are several."""
    instructions = dockerfile()
    start = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[start:])


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [*setting_names(), *(name for name in os.environ if name.startswith("SYNESTHESIA_"))]:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


# ---- settings


def test_the_example_lists_every_setting_and_no_other() -> None:
    assert set(example()) - COMPOSE_ONLY == set(setting_names())


def test_the_example_shows_the_defaults_and_every_value_is_understood(clean_environment: pytest.MonkeyPatch) -> None:
    defaults = Settings()
    for name, (active, value) in example().items():
        if not active:
            clean_environment.setenv(name, value)
    shown = Settings()
    for name, field in setting_names().items():
        default = getattr(defaults, field)
        if default is not None:
            assert getattr(shown, field) == default, name
        elif name not in SECRETS:
            assert getattr(shown, field) is not None, f"{name} is not read"


def test_the_example_asks_for_the_secrets_and_holds_none() -> None:
    active = {name: value for name, (is_active, value) in example().items() if is_active}
    assert active == dict.fromkeys(SECRETS, "")


@pytest.mark.parametrize("service", OURS)
def test_compose_sets_only_what_the_settings_know_and_they_accept_it(service: str, clean_environment: pytest.MonkeyPatch) -> None:
    environment = environment_of(service)
    assert set(environment) <= set(setting_names())
    for name, value in environment.items():
        clean_environment.setenv(name, value)
    settings = Settings()
    assert settings.resolved_database_url == "postgresql+psycopg://synesthesia:p4ssw0rd@postgres:5432/synesthesia"
    assert settings.redis_url == "redis://redis:6379/0"
    assert settings.blob_url == "file:///data/blobs"
    assert str(settings.data_dir) == "/data"
    assert "data:/data" in SERVICES[service]["volumes"]


def test_variables_of_compose_are_in_the_example() -> None:
    used = {match["name"] for match in _VARIABLE.finditer((ROOT / "docker-compose.yml").read_text())}
    assert used >= SECRETS
    assert used <= set(example())


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_compose_refuses_to_start_without_a_secret(secret: str) -> None:
    without = {name: value for name, value in GIVEN.items() if name != secret}
    value = SERVICES[HOLDERS[secret]]["environment"][secret]
    with pytest.raises(LookupError, match=r"\.env"):
        interpolated(value, without)


def test_no_secret_is_baked_in() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"KEY|PASSWORD|SECRET|TOKEN", name):
                assert str(value).startswith("${"), name
    for name, rest in dockerfile():
        if name in ("ENV", "ARG"):
            assert not re.search(r"KEY|PASSWORD|SECRET|TOKEN", rest), rest


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml", ".env.example", "requirements.lock"])
def test_no_registry_is_named(name: str) -> None:
    assert not re.search(r"https?://(?!example\.org/)", (ROOT / name).read_text())


# ---- compose


@pytest.mark.parametrize("service", OURS)
def test_commands_are_those_of_the_command_line(service: str) -> None:
    from app.cli import cli

    name, *options = SERVICES[service]["command"]
    commands: dict[str, Any] = get_command(cli).commands  # type: ignore[attr-defined]  # the root command is a group
    commands[name].make_context(name, list(options))


def test_each_queue_has_a_worker_of_its_own_without_a_gpu() -> None:
    queues = {name: worker["command"][worker["command"].index("--queues") + 1] for name, worker in WORKERS.items()}
    assert sorted(queue for name, queue in queues.items() if "profiles" not in WORKERS[name]) == sorted(QUEUES)
    assert queues["worker-gpu"] == "train"


@pytest.mark.parametrize("service", OURS)
def test_services_wait_for_healthy_ones(service: str) -> None:
    assert SERVICES[service]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("redis", "postgres")}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_restarts_and_has_a_health_check_that_can_end(service: str) -> None:
    assert SERVICES[service]["restart"] == "unless-stopped"
    check = SERVICES[service]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert 0 < seconds(check["timeout"]) <= seconds(check["interval"])
    assert check["retries"] >= 3


@pytest.mark.parametrize("service", OURS)
def test_stopping_leaves_time_for_a_checkpoint(service: str, clean_environment: pytest.MonkeyPatch) -> None:
    assert SERVICES[service]["stop_signal"] == last_stage()["STOPSIGNAL"] == "SIGTERM"
    assert seconds(SERVICES[service]["stop_grace_period"]) == 60 > Settings().stop_grace_seconds + 5 + 10


@pytest.mark.parametrize("service", OURS)
def test_containers_have_few_rights(service: str) -> None:
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in SERVICES[service]["security_opt"]
    assert SERVICES[service]["init"] is True


def test_only_the_api_is_published_and_on_loopback() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert [interpolated(port, {}) for port in SERVICES["api"]["ports"]] == ["127.0.0.1:8000:8000"]
    assert interpolated(SERVICES["api"]["ports"][0], {"SYNESTHESIA_PORT": "9000"}) == "127.0.0.1:9000:8000"
    assert environment_of("api")["SYNESTHESIA_PORT"] == "8000"
    assert COMPOSE["networks"]["backend"]["internal"] is True
    assert SERVICES["redis"]["networks"] == SERVICES["postgres"]["networks"] == ["backend"]


def test_redis_keeps_messages_and_evicts_none() -> None:
    program, *options = SERVICES["redis"]["command"]
    assert program == "redis-server"
    chosen = dict(zip(options[::2], options[1::2], strict=True))
    assert chosen["--appendonly"] == "yes"
    assert chosen["--appendfsync"] == "everysec"
    assert chosen["--maxmemory-policy"] == "noeviction"
    assert chosen["--maxmemory"]


def test_every_volume_is_declared_and_used() -> None:
    used = {mount.partition(":")[0] for service in SERVICES.values() for mount in service["volumes"]}
    assert used == set(COMPOSE["volumes"]) == {"data", "redis", "postgres"}


def test_the_gpu_worker_is_asked_for_and_gets_a_gpu() -> None:
    worker = SERVICES["worker-gpu"]
    assert worker["profiles"] == ["gpu"]
    assert environment_of("worker-gpu")["SYNESTHESIA_DEVICE"] == "cuda"
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert all(environment_of(name)["SYNESTHESIA_DEVICE"] == "cpu" for name in WORKERS if name != "worker-gpu")


# ---- image


def test_the_image_runs_without_root_and_gets_signals() -> None:
    stage = last_stage()
    user, _, group = stage["USER"].partition(":")
    assert int(user) == int(group) >= 10000
    assert json.loads(stage["ENTRYPOINT"]) == ["synesthesia"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "synesthesia" in scripts
    check = json.loads(stage["HEALTHCHECK"].partition("CMD ")[2])
    assert check == ["python", "/opt/synesthesia/health.py", "api"] == SERVICES["api"]["healthcheck"]["test"][1:]


def test_the_image_is_built_from_files_that_reach_it() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = [source for name, rest in dockerfile() if name == "COPY" and not rest.startswith("--from") for source in rest.split()[:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    assert not [line for line in ignored if line.startswith("!") and (".env" in line or "data" in line)]


def test_the_lock_covers_the_extras_of_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    (install,) = (rest for name, rest in dockerfile() if name == "RUN" and "--requirements pyproject.toml" in rest)
    extras = re.findall(r"--extra (\w+)", install)
    assert extras == ["postgres", "s3"]
    assert "--constraint requirements.lock" in install
    needed = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    assert {re.split(r"[\[<>=!;~ ]", line)[0].lower() for line in needed} <= locked
    assert "psycopg-binary" in locked
