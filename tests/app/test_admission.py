"""Keys of the database at the gate: who is let in, for what, how often, and what is written about it."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient, WebSocketDenialResponse

import app.keyring as keyring_module
from app.gate import Gate
from app.keyring import REFRESH_SECONDS, KeyRing
from app.main import create_app
from app.metrics import Metrics
from tests.app.conftest import check_problem, exchange, serving, wait_until
from tests.app.test_gate import echo
from tests.conftest import tone, wav_bytes
from worker.audit import list_audit
from worker.keys import create_key, list_keys, revoke_key
from worker.owners import View, seen_by
from worker.settings import Settings

WAV = {"content": wav_bytes(tone(300)), "headers": {"Content-Type": "audio/wav"}}
FORMULA = {"generator": "textures", "labels": 2, "items_per_label": 2, "image_size": 16}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def gate(settings: Settings) -> Iterator[TestClient]:
    """A gate with a key ring before an application that answers all."""
    ring = KeyRing()
    ring.start()
    yield TestClient(Gate(echo, settings.model_copy(update={"auth_failures_a_minute": 3}), Metrics(), ring))
    ring.stop()


@pytest.fixture
def keyed(settings: Settings) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """The whole application, and a key of each scope; Ann's are two of them."""
    keys = {"read": create_key("read", owner="ann")[0], "write": create_key("write", owner="ann")[0], "admin": create_key("admin")[0]}
    with TestClient(create_app(settings)) as client:
        yield client, keys


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("read", {"GET": 200, "POST": 403, "predict": 200, "audit": 403}), ("write", {"GET": 200, "POST": 200, "predict": 200, "audit": 403}),
     ("admin", {"GET": 200, "POST": 200, "predict": 200, "audit": 200})],
)  # fmt: skip
def test_scopes(gate: TestClient, scope: str, allowed: dict[str, int]) -> None:
    headers = bearer(create_key(scope)[0])
    asked = {"GET": ("GET", "/jobs"), "POST": ("POST", "/jobs"), "predict": ("POST", "/predict"), "audit": ("GET", "/audit")}
    found = {name: gate.request(method, path, headers=headers) for name, (method, path) in asked.items()}
    assert {name: answer.status_code for name, answer in found.items()} == allowed
    for answer in found.values():
        if answer.status_code == 403:
            assert check_problem(answer, 403, "scope_insufficient")["detail"].startswith(f"the key has the scope {scope}")


def test_a_key_opens_as_soon_as_it_is_made_and_closes_soon_after_it_is_revoked(gate: TestClient) -> None:
    create_key("admin")
    wait_until(lambda: gate.get("/jobs").status_code == 401, seconds=3)
    key, row = create_key("read")
    assert gate.get("/jobs", headers=bearer(key)).status_code == 200
    began = time.monotonic()
    revoke_key(row["id"])
    wait_until(lambda: gate.get("/jobs", headers=bearer(key)).status_code == 401, seconds=4)
    assert time.monotonic() - began < REFRESH_SECONDS + 1.5


def test_an_open_service_closes_with_the_first_key_and_stays_so(gate: TestClient) -> None:
    assert gate.get("/jobs").status_code == 200
    revoke_key(create_key("read")[1]["id"])
    wait_until(lambda: gate.get("/jobs").status_code == 401, seconds=4)
    assert gate.get("/healthz").status_code == 200


def test_off_means_off(settings: Settings) -> None:
    create_key("admin")
    client = TestClient(Gate(echo, settings.model_copy(update={"auth": "off"}), Metrics(), KeyRing()))
    assert client.get("/jobs").status_code == 200


def test_the_key_of_the_settings_goes_on_to_work_beside_them(settings: Settings) -> None:
    key, _ = create_key("read")
    client = TestClient(Gate(echo, settings.model_copy(update={"api_key": Settings(api_key="mine").api_key}), Metrics(), KeyRing()))
    assert [client.post("/jobs", headers=bearer(text)).status_code for text in ("mine", key)] == [200, 403]


def test_a_request_with_a_known_key_asks_no_database(gate: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = create_key("read")
    assert gate.get("/jobs", headers=bearer(key)).status_code == 200
    monkeypatch.setattr(keyring_module, "find_key", None)
    assert {gate.get("/jobs", headers=bearer(key)).status_code for _ in range(20)} == {200}


def test_what_is_known_goes_on_to_count_while_the_database_does_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def broken() -> None:
        raise OperationalError("", {}, Exception("gone"))

    monkeypatch.setattr(keyring_module, "REFRESH_SECONDS", 0.02)
    key, _ = create_key("read")
    ring = KeyRing()
    ring.load()
    monkeypatch.setattr(keyring_module, "load_keys", broken)
    ring.start()
    time.sleep(0.1)
    try:
        client = TestClient(Gate(echo, settings, Metrics(), ring))
        assert client.get("/jobs", headers=bearer(key)).status_code == 200
        assert client.get("/jobs").status_code == 401
    finally:
        ring.stop()


def test_the_use_of_a_key_is_told_in_the_end(settings: Settings) -> None:
    key, _ = create_key("read")
    ring = KeyRing()
    ring.start()
    assert TestClient(Gate(echo, settings, Metrics(), ring)).get("/jobs", headers=bearer(key)).status_code == 200
    ring.stop()
    assert [row["last_used_at"] is not None for row in list_keys()] == [True]


def test_wrong_keys_are_counted_and_right_ones_still_let_in(gate: TestClient) -> None:
    right, _ = create_key("read")
    answers = [gate.get("/jobs", headers=bearer(f"wrong{number}")) for number in range(5)]
    assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 2
    body = check_problem(answers[-1], 429, "too_many_failures")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert "wrong" in body["detail"]
    assert gate.get("/jobs", headers=bearer(right)).status_code == 200
    assert gate.get("/jobs").status_code == 401, "no key is no guess"


def test_beyond_the_limit_a_wrong_key_is_not_looked_up(gate: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key("read")
    for number in range(4):
        gate.get("/jobs", headers=bearer(f"wrong{number}"))
    monkeypatch.setattr(keyring_module, "find_key", None)
    check_problem(gate.get("/jobs", headers=bearer("another")), 429, "too_many_failures")


def test_addresses_are_counted_apart(settings: Settings) -> None:
    create_key("read")
    gate = Gate(echo, settings.model_copy(update={"auth_failures_a_minute": 1}), Metrics(), KeyRing())
    for address, status in (("10.0.0.1", 429), ("10.0.0.2", 401)):
        client = TestClient(gate, client=(address, 1))
        wrong = [client.get("/jobs", headers=bearer("wrong")).status_code for _ in range(2 if status == 429 else 1)]
        assert wrong[-1] == status


def test_a_wrong_key_is_answered_before_its_body_is_sent(settings: Settings) -> None:
    create_key("read")
    head = b"POST /datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\nContent-Length: 2000000000\r\n\r\n"
    with serving(Gate(echo, settings, Metrics(), KeyRing())) as address:
        status, headers, _ = exchange(address, head)
    assert (status, headers["connection"]) == (401, "close")


def test_sockets_obey_the_same_rules(keyed: tuple[TestClient, dict[str, str]]) -> None:
    client, keys = keyed
    for offered, status in ((["synesthesia.v1", f"bearer.{keys['read']}"], 404), (["synesthesia.v1", "bearer.wrong"], 401), ([], 401)):
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/predict/stream", subprotocols=offered):
            pass
        assert refused.value.status_code == status  # 404: let in, and there is no model yet


def test_changes_and_refusals_are_audited_and_nothing_else(keyed: tuple[TestClient, dict[str, str]]) -> None:
    client, keys = keyed
    made = client.post("/datasets", json=FORMULA, headers=bearer(keys["write"]) | {"X-Request-ID": "mine-1"}).json()["id"]
    refused = client.post("/datasets", json=FORMULA, headers=bearer(keys["read"]) | {"X-Request-ID": "mine-2"})
    check_problem(refused, 403, "scope_insufficient")
    client.get("/datasets", headers=bearer(keys["write"]))
    client.post("/jobs", json={"dataset": "ds_0"}, headers=bearer(keys["write"]))
    client.post("/predict", headers=bearer(keys["read"]) | WAV["headers"], content=WAV["content"])
    ids = {row["scope"]: row["id"] for row in list_keys()}
    listed = client.get("/audit", headers=bearer(keys["admin"])).json()
    assert [(row["key"], row["request_id"], row["action"], row["object_id"], row["outcome"]) for row in listed["data"]] == [
        (ids["read"], "mine-2", "POST /datasets", None, "refused"),
        (ids["write"], "mine-1", "POST /datasets", made, "done"),
    ]
    assert listed["has_more"] is False


def test_the_audit_log_is_a_list_like_others(keyed: tuple[TestClient, dict[str, str]]) -> None:
    client, keys = keyed
    made = [client.post("/datasets", json=FORMULA, headers=bearer(keys[scope])).json()["id"] for scope in ("write", "admin", "write")]
    admin = bearer(keys["admin"])
    first = client.get("/audit", params={"limit": 2}, headers=admin).json()
    assert ([row["object_id"] for row in first["data"]], first["has_more"]) == (made[:0:-1], True)
    second = client.get("/audit", params={"limit": 2, "after": first["last_id"]}, headers=admin).json()
    assert ([row["object_id"] for row in second["data"]], second["has_more"]) == ([made[0]], False)
    by_admin = {row["scope"]: row["id"] for row in list_keys()}["admin"]
    assert [row["object_id"] for row in client.get("/audit", params={"key": by_admin}, headers=admin).json()["data"]] == [made[1]]
    check_problem(client.get("/audit", params={"after": "5"}, headers=admin), 422, "validation_error")


def test_on_an_open_service_changes_are_audited_too(client: TestClient) -> None:
    made = client.post("/datasets", json=FORMULA).json()["id"]
    assert client.delete(f"/datasets/{made}").status_code == 409
    assert [(row["key"], row["object_id"]) for row in client.get("/audit").json()["data"]] == [("open", made)]


def test_a_change_that_fails_leaves_no_row(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from worker import generated

    def fail(*_: Any) -> None:
        raise RuntimeError

    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        monkeypatch.setattr(generated, "as_json", fail)  # after the note, within the transaction
        assert client.post("/datasets", json=FORMULA).status_code == 500
        assert list_audit().data == []


def test_no_key_stands_in_a_log_or_in_the_database(keyed: tuple[TestClient, dict[str, str]], settings: Settings) -> None:
    client, keys = keyed
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        for key in (*keys.values(), "syn_wrong-and-secret"):
            client.post("/datasets", json=FORMULA, headers=bearer(key))
            client.post(f"/predict?model={key[:60]}", headers=bearer(key), content=b"")
            client.get("/audit", headers=bearer(key))
    assert [line["outcome"] for line in lines if line["event"] == "audit"] == ["refused", "done", "done"]
    stored = b"".join(path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file())
    for key in (*keys.values(), "syn_wrong-and-secret"):
        assert key not in json.dumps(lines, default=repr)
        assert key.encode() not in stored


def quota(client: TestClient, key: str, method: str, path: str, **request: Any) -> tuple[int, str]:
    answer = client.request(method, path, headers=bearer(key) | request.pop("headers", {}), **request)
    if answer.status_code in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize(
    ("limit", "code"),
    [({"max_owner_jobs": 1}, "queue_quota"), ({"max_owner_datasets": 1}, "dataset_quota"), ({"max_owner_bytes": 4000}, "storage_quota")],
)
def test_quotas_of_what_is_made(change_setting: Callable[..., Settings], limit: dict[str, int], code: str) -> None:
    keys = {owner: create_key("write", owner=owner)[0] for owner in ("ann", "bob", "")} | {"admin": create_key("admin")[0]}
    with TestClient(create_app(change_setting(**limit))) as client:
        assert client.get("/limits", headers=bearer(keys["ann"])).json()["limits"].items() >= limit.items()
        for owner in ("ann", "bob", ""):
            assert [quota(client, keys[owner], "POST", "/datasets", json=FORMULA) for _ in range(2)] == [(202, ""), (429, code)]
        assert [quota(client, keys["admin"], "POST", "/datasets", json=FORMULA) for _ in range(2)] == [(202, "")] * 2


def test_an_open_service_has_no_quota(change_setting: Callable[..., Settings]) -> None:
    with TestClient(create_app(change_setting(max_owner_jobs=0, max_owner_datasets=0, max_owner_bytes=0))) as client:
        assert client.post("/datasets", json=FORMULA).status_code == 202


def test_jobs_wait_within_the_quota_of_their_owner_and_of_all(
    change_setting: Callable[..., Settings], make_dataset: Callable[..., str]
) -> None:
    settings = change_setting(max_owner_jobs=2, max_queued_jobs=3)
    keys, datasets = {}, {}
    for owner in ("ann", "bob"):
        keys[owner] = create_key("write", owner=owner)[0]
        with seen_by(View(owner, sees_all=False)):
            datasets[owner] = make_dataset()
    with TestClient(create_app(settings)) as client:
        for path in ("/jobs", "/transferability"):
            found = [quota(client, keys["ann"], "POST", path, json={"dataset": datasets["ann"]}) for _ in range(2)]
            assert found == ([(202, "")] * 2 if path == "/jobs" else [(429, "queue_quota")] * 2)
        assert [quota(client, keys["bob"], "POST", "/jobs", json={"dataset": datasets["bob"]}) for _ in range(2)] == [
            (202, ""),
            (503, "queue_full"),
        ]


def test_pausing_a_job_makes_no_room_for_another(change_setting: Callable[..., Settings], make_dataset: Callable[..., str]) -> None:
    settings, key = change_setting(max_owner_jobs=1), create_key("write", owner="ann")[0]
    with seen_by(View("ann", sees_all=False)):
        body = {"dataset": make_dataset()}
    with TestClient(create_app(settings)) as client:
        job_id = client.post("/jobs", json=body, headers=bearer(key)).json()["id"]
        assert client.post(f"/jobs/{job_id}/pause", headers=bearer(key)).json()["status"] == "paused"
        assert quota(client, key, "POST", "/jobs", json=body) == (429, "queue_quota")
        assert client.post(f"/jobs/{job_id}/resume", headers=bearer(key)).status_code == 202, "its place was kept"
        assert client.post(f"/jobs/{job_id}/cancel", headers=bearer(key)).status_code == 202
        assert quota(client, key, "POST", "/jobs", json=body) == (202, "")


@pytest.mark.parametrize(("path", "kind"), [("/datasets?name=x", "application/zip"), ("/models", "application/x-tar")])
def test_an_upload_beyond_the_quota_is_refused_unread(change_setting: Callable[..., Settings], path: str, kind: str) -> None:
    key = create_key("write", owner="ann")[0]
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\nContent-Length: 2000000\r\n\r\n"
    with serving(create_app(change_setting(max_owner_bytes=1_000_000))) as address:
        status, headers, body = exchange(address, head.encode())
    assert (status, json.loads(body)["code"]) == (429, "storage_quota")
    assert int(headers["retry-after"]) >= 1


def test_predictions_a_second(change_setting: Callable[..., Settings], make_model: Callable[..., str]) -> None:
    keys = {owner: create_key("read", owner=owner)[0] for owner in ("ann", "bob")} | {"admin": create_key("admin")[0]}
    for owner in ("ann", "bob", ""):
        with seen_by(View(owner, sees_all=False)):
            make_model(alias="default")
    with TestClient(create_app(change_setting(owner_predictions_a_second=0.5))) as client:
        asked = {who: [quota(client, keys[who], "POST", path, **WAV) for path in ("/predict", "/embeddings")] for who in keys}
        assert asked == {
            "ann": [(200, ""), (429, "prediction_quota")],
            "bob": [(200, ""), (429, "prediction_quota")],
            "admin": [(200, "")] * 2,
        }
        assert quota(client, keys["ann"], "GET", "/models") == (200, "")
