import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.problems import TITLES
from app.schemas.system import Health, Limits, ProblemList, Readiness, Version
from tests.app.conftest import check_problem
from worker.settings import Settings


def test_start_leads_programs_to_the_documentation(client: TestClient) -> None:
    response = client.get("/", headers={"Accept": "application/json"}, follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, "/docs")
    assert "openapi.json" in client.get("/docs").text
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_health_and_version(client: TestClient) -> None:
    assert Health.model_validate(client.get("/healthz").json()).status == "ok"
    version = Version.model_validate(client.get("/version").json())
    assert version.name == "synesthesia"


def test_ready_but_degraded_without_a_broker(client: TestClient) -> None:
    response = client.get("/readyz")
    found = Readiness.model_validate(response.json())
    assert (response.status_code, found.status) == (200, "degraded")
    assert {name: check.status for name, check in found.checks.items()} == {
        "database": "ok",
        "broker": "degraded",
        "disk": "ok",
        "models": "ok",
    }


def test_not_ready_without_a_database(client: TestClient, settings: Settings) -> None:
    from worker.database import get_engine

    get_engine().dispose()
    for path in settings.data_dir.glob("synesthesia.db*"):
        path.unlink()
    (settings.data_dir / "synesthesia.db").mkdir()
    body = check_problem(client.get("/readyz"), 503, "not_ready")
    assert body["detail"] == "database: the database does not answer; models: the database does not answer"
    assert client.get("/healthz").status_code == 200
    check_problem(client.get("/jobs"), 503, "dependency_unavailable")


def test_limits_are_those_in_force(change_setting: Callable[..., Settings]) -> None:
    from app.main import create_app

    settings = change_setting(max_json_bytes=1000, max_sound_seconds=7)
    with TestClient(create_app(settings)) as client:
        limits = Limits.model_validate(client.get("/limits").json()).limits
        assert (limits["max_json_bytes"], limits["max_sound_seconds"]) == (1000, 7)
        check_problem(client.post("/jobs", json={"x": "y" * 1000}), 413, "body_too_large")


def test_problems_are_listed(client: TestClient) -> None:
    found = ProblemList.model_validate(client.get("/problems").json())
    assert {row.id: row.title for row in found.data} == TITLES
    assert not found.has_more


def test_metrics_are_prometheus_text(client: TestClient, make_dataset: Callable[..., str]) -> None:
    client.post("/jobs", json={"dataset": make_dataset()})
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'synesthesia_jobs{state="queued"} 1.0' in response.text
    assert all(
        re.fullmatch(r"(#.*|[a-z_]+(\{.*\})? [0-9.e+-]+|[a-z_]+\{.*\} [0-9.e+-]+(Inf)?)", line) for line in response.text.splitlines()
    )


ALLOWED = {
    "/healthz": "GET",
    "/jobs": "GET, POST",
    "/jobs/job_1": "GET",
    "/models/m": "GET, DELETE",
    "/aliases/x": "PUT, DELETE",
    "/predict": "POST",
    "/docs": "GET, HEAD",
}


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "PROPFIND", "INVENTED"])
def test_other_methods_get_405_with_what_is_allowed(client: TestClient, method: str) -> None:
    for path, allowed in ALLOWED.items():
        response = client.request(method, path)
        check_problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == allowed


def test_other_addresses_get_404(client: TestClient) -> None:
    for path in ("/nowhere", "/jobs/", "/job", "/v1/jobs", "/jobs/job_1/restart", "/%2e%2e/etc/passwd", "/datasets//items", "/.env"):
        check_problem(client.get(path), 404, "route_not_found")


ROUTES = [
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/version"), ("GET", "/limits"), ("GET", "/problems"), ("GET", "/metrics"),
    ("GET", "/datasets"), ("POST", "/datasets"), ("GET", "/datasets/ds_1"), ("GET", "/datasets/ds_1/items"), ("DELETE", "/datasets/ds_1"),
    ("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/jobs/job_1"), ("POST", "/jobs/job_1/cancel"), ("GET", "/jobs/job_1/events"),
    ("GET", "/jobs/job_1/checkpoints"), ("GET", "/models"), ("POST", "/models"), ("GET", "/models/m"), ("GET", "/models/m/evaluation"),
    ("GET", "/models/m/artifact"), ("GET", "/models/m/onnx"), ("DELETE", "/models/m"), ("GET", "/aliases"), ("PUT", "/aliases/a"),
    ("DELETE", "/aliases/a"), ("GET", "/backbones"), ("POST", "/predict"),
]  # fmt: skip


@pytest.mark.parametrize("query", ["limti=1", "a%00b=1", "metadata[a b]=1", "=x"])
def test_unknown_parameters_are_refused_everywhere(client: TestClient, query: str) -> None:
    for method, path in ROUTES:
        body = check_problem(client.request(method, f"{path}?{query}"), 422, "validation_error")
        assert body["errors"][0]["pointer"].startswith("/query/")


@pytest.mark.parametrize("query", ["limit=1&limit=2", "status=ready&status=ready"])
def test_parameters_given_twice_are_refused(client: TestClient, query: str) -> None:
    body = check_problem(client.get(f"/datasets?{query}"), 422, "validation_error")
    assert body["errors"][0]["detail"] == "given twice"


OUT_OF_RANGE = """limit=0 limit=101 limit=-1 limit=x limit=1e3 limit= limit=99999999999999999999 limit=٣ after=x after=ds_ after=ds_1%0A
after=ds_A after=%00 after=ds_11111111111111111111111111111111111111111 status=done status= modality=video"""


def test_parameters_out_of_range_are_refused(client: TestClient) -> None:
    for query in OUT_OF_RANGE.split():
        body = check_problem(client.get(f"/datasets?{query}"), 422, "validation_error")
        assert body["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"


ODD_IDS = {
    "slash in disguise": "..%2f..%2fetc%2fpasswd",
    "backslash": "..%5cx",
    "NUL": "job_1%00",
    "NUL alone": "%00",
    "line break": "job_1%0a",
    "fragment": "job_1%23x",
    "semicolon": "job_1;x=1",
    "quote": "job_1'--",
    "percent": "job_1%25",
    "space": "job%20_1",
    "capitals": "JOB_1",
    "unicode digits": "job_%D9%A3",
    "not UTF-8": "job_%ff",
    "10 KB": "j" * 10_000,
    "markup": "%3Cscript%3E",
    "absent": "job_0123456789",
}
READ = (
    "/datasets/{} /datasets/{}/items /jobs/{} /jobs/{}/events /jobs/{}/checkpoints /models/{} /models/{}/evaluation /models/{}/artifact"
    " /models/{}/onnx"
)
CHANGED = ("/jobs/{}/cancel", "/jobs/{}/pause", "/jobs/{}/resume")
DELETED = ("/datasets/{}", "/models/{}", "/aliases/{}")
TEMPLATES = [("GET", path) for path in READ.split()] + [("POST", path) for path in CHANGED] + [("DELETE", path) for path in DELETED]


@pytest.mark.parametrize("odd", ODD_IDS.values(), ids=ODD_IDS)
def test_odd_ids_are_absent_like_any_other(client: TestClient, odd: str) -> None:
    for method, template in TEMPLATES:
        response = client.request(method, template.format(odd))
        noun = template.split("/")[1].removesuffix("es" if template.startswith("/alias") else "s")
        code = response.json()["code"]
        assert code in (f"{noun}_not_found", "route_not_found"), (template, response.text)
        check_problem(response, 404, code)
        assert len(response.content) < 1000 + len(response.json()["instance"])


def test_an_absent_id_and_an_impossible_one_get_the_same_answer(client: TestClient) -> None:
    def shape(name: str) -> dict[str, Any]:
        body = dict(client.get(f"/jobs/{name}").json())
        del body["request_id"]
        return {key: str(value).replace(name, "…") for key, value in body.items()}

    assert shape("job_0123456789") == shape("JOB_0123456789")


@pytest.mark.parametrize("name", ["Upper", "-a", "_a", "a" * 64, "a.b", "%00", "a%0A", "ä"])
def test_names_of_new_aliases_are_judged(client: TestClient, name: str) -> None:
    check_problem(client.put(f"/aliases/{name}", json={"model": "mdl_1"}), 422, "validation_error")


def test_every_answer_forbids_guessing_its_type(client: TestClient) -> None:
    for path in ("/healthz", "/jobs", "/nowhere", "/docs"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"
