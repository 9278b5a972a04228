"""What people do who never leave the terminal: watch jobs, compare what came out, write a report, hand the metrics on."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.async_client import AsyncClient
from app.cli import cli
from app.client import Client, Json
from tests.service import Service, run_job, small

pytestmark = pytest.mark.slow  # two trainings, of which tests/app/commands/test_looking.py needs none


@pytest.fixture(scope="module")
def jobs(client: Client, sounds: Json) -> tuple[Json, Json]:
    """Two finished jobs on one dataset, the second one hardly trained."""
    learnt = run_job(client, small(sounds, name="learnt", evaluation={"controls": "none"}, hyperparameters={"epochs": 12}))
    return learnt, run_job(client, small(sounds, name="hardly", hyperparameters={"epochs": 1, "learning_rate": 1e-6}))


@pytest.fixture
def say(service: Service) -> "Say":
    return Say(service.url)


class Say:
    """Runs commands against the service."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["--url", self._url, *words], catch_exceptions=False)


def test_a_job_is_watched_to_its_end(say: Say, jobs: tuple[Json, Json]) -> None:
    found = say("watch", jobs[0]["id"], jobs[1]["id"], "--json")
    assert found.exit_code == 0
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert {row["job"] for row in rows} == {jobs[0]["id"], jobs[1]["id"]}
    assert sum(row["type"] == "metrics" and row["job"] == jobs[0]["id"] for row in rows) >= 12
    assert "succeeded with model" in say("watch", jobs[0]["id"]).stdout


def test_two_models_are_compared_item_by_item(say: Say, jobs: tuple[Json, Json]) -> None:
    found = json.loads(say("compare", jobs[0]["id"], jobs[1]["id"], "--json").stdout)
    assert found["test"] == "mcnemar"
    assert (found["first"]["id"], found["second"]["id"]) == (jobs[0]["model"], jobs[1]["model"])
    gap = found["only_second_wrong"] - found["only_first_wrong"]
    assert found["difference"] * found["first"]["n"] == pytest.approx(gap)
    assert found["difference"] > 0
    same = json.loads(say("compare", jobs[0]["model"], jobs[0]["model"], "--json").stdout)
    assert (same["p_value"], same["told_apart"], same["difference"]) == (1.0, False, 0.0)
    shown = say("compare", jobs[0]["id"], jobs[1]["id"]).stdout
    assert found["sentence"].split(" (")[0] in shown


def test_models_of_different_datasets_are_compared_by_intervals(say: Say, jobs: tuple[Json, Json], source: Json) -> None:
    found = json.loads(say("compare", jobs[0]["model"], source["model"], "--json").stdout)
    assert found["test"] == "intervals"
    low, high = found["interval_95"]
    assert low <= found["difference"] <= high


def test_a_report_is_one_file(say: Say, jobs: tuple[Json, Json], tmp_path: Path) -> None:
    for subject in (jobs[0]["id"], jobs[0]["model"]):
        target = tmp_path / f"{subject}.html"
        assert say("report", subject, "-o", str(target)).exit_code == 0
        text = target.read_text(encoding="utf-8")
        for words in ("Learning", "On test items", "confusion matrix", "Calibration", "Settings", jobs[0]["id"], jobs[0]["model"]):
            assert words in text


def test_metrics_are_handed_to_tensorboard(say: Say, jobs: tuple[Json, Json], tmp_path: Path) -> None:
    found = json.loads(say("export", jobs[0]["id"], str(tmp_path), "--to", "tensorboard", "--json").stdout)
    (path,) = found["files"]
    content = Path(path).read_bytes()
    assert Path(path).parent.name == jobs[0]["id"]
    assert content.count(b"validation_accuracy") >= 12
    assert b"final/test_accuracy" in content


def test_the_doctor_finds_the_service(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.settings import get_settings

    monkeypatch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path))
    get_settings.cache_clear()
    try:
        found = json.loads(say("doctor", "--json").stdout)
    finally:
        get_settings.cache_clear()
    checks = {row["name"]: row for row in found["checks"]}
    assert checks["service"]["status"] == "ok"
    assert checks["torch"]["status"] in ("ok", "warning")
    assert checks["bundled weights"]["status"] == "ok"


def test_everything_at_once_awaited(service: Service, jobs: tuple[Json, Json]) -> None:
    async def look() -> None:
        async with AsyncClient(service.url) as client:
            found = await asyncio.gather(*(client.wait(job["id"]) for job in jobs))
            assert [job["status"] for job in found] == ["succeeded", "succeeded"]
            assert [event["type"] async for event in client.events(jobs[0]["id"])][-1] == "status"
            model = await client.model(str(jobs[0]["model"]))
            assert model["job"] == jobs[0]["id"]
            assert "test" in (await client.evaluation(model["id"]))["splits"]

    asyncio.run(look())
