"""What is somebody's is nobody else's: every address that names something, asked by a stranger with a key of their own."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Receive, Scope, Send

from app.main import create_api, create_app
from app.protocol import Protocol
from tests.app.conftest import serving
from tests.conftest import sound_archive, tone, wav_bytes
from worker.keys import create_key
from worker.owners import View, seen_by
from worker.settings import Settings

Answer = tuple[int, Any]
WAV = wav_bytes(tone(300))
ARCHIVE = sound_archive(words=2, speakers=1, takes=1)
ZIP = {"Content-Type": "application/zip"}
SPOKEN = {"inputs": [{"name": "waveform", "datatype": "FP32", "shape": [1, 8000], "data": [0.0] * 8000}]}
PATHS = create_api(Settings()).openapi()["paths"]
OPERATIONS = sorted((method.upper(), path) for path, operations in PATHS.items() for method in operations if "{" in path)
ABSENT = {"dataset": "ds_00000000000000000000", "job": "job_00000000000000000000", "model": "mdl_00000000000000000000", "alias": "absent"}


@dataclass(frozen=True)
class House:
    """A service with two owners, of whom Ann has one thing of each kind, and an administrator."""

    client: TestClient
    keys: dict[str, str]
    things: dict[str, str]

    def ask(self, who: str, method: str, path: str, **request: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} | request.pop("headers", {})
        answer = self.client.request(method, path, headers=headers, **request)
        return answer.status_code, answer.json() if "json" in answer.headers.get("content-type", "") else answer.content

    def socket(self, who: str, path: str) -> int:
        try:
            with self.client.websocket_connect(path, headers={"Authorization": f"Bearer {self.keys[who]}"}):
                return 101
        except WebSocketDenialResponse as refused:
            return int(refused.status_code)


@pytest.fixture
def house(settings: Settings, make_dataset: Callable[..., str], make_model: Callable[..., str]) -> Iterator[House]:
    keys = {who: create_key("write", owner=who)[0] for who in ("ann", "bob")}
    keys["admin"] = create_key("admin")[0]
    with seen_by(View("ann", sees_all=False)):
        things = {"dataset": make_dataset(), "model": make_model(alias="hers"), "alias": "hers"}
    with TestClient(create_app(settings)) as client:
        found = House(client, keys, things)
        status, job = found.ask("ann", "POST", "/jobs", json={"dataset": things["dataset"]})
        assert status == 202, job
        things["job"] = job["id"]
        yield found


def kind_of(path: str) -> str:
    return "alias" if path.startswith("/aliases") else "model" if "/models/" in path else path.split("/")[1].removesuffix("s")


def filled(path: str, thing: str) -> str:
    named = {"{dataset_id}": thing, "{job_id}": thing, "{model_id}": thing, "{name}": thing, "{item_id}": "itm_000000", "{version}": "1"}
    for placeholder, value in named.items():
        path = path.replace(placeholder, value)
    assert "{" not in path, path
    return path


def body_for(method: str, path: str) -> dict[str, Any]:
    if path.endswith("/infer"):
        return {"json": SPOKEN}
    if path.endswith("/evaluation/items"):
        return {"params": {"label": "yes", "predicted": "no"}}
    return {"json": {"model": ABSENT["model"]}} if method == "PUT" else {}


def without(answer: Answer, thing: str) -> Answer:
    """An answer less what differs between any two requests: their ids, and what they asked for."""
    status, body = answer
    assert isinstance(body, dict), body
    return status, {name: str(value).replace(thing, "…") for name, value in body.items() if name != "request_id"}


@pytest.mark.parametrize("by", ["id", "alias"])
def test_what_is_anothers_is_answered_as_what_is_absent(house: House, by: str) -> None:
    asked = 0
    for method, path in OPERATIONS:
        kind = kind_of(path)
        if by == "alias" and kind != "model":
            continue
        foreign, absent = (house.things[kind], ABSENT[kind]) if by == "id" else (house.things["alias"], ABSENT["alias"])
        answers = [without(house.ask("bob", method, filled(path, thing), **body_for(method, path)), thing) for thing in (foreign, absent)]
        assert answers[0] == answers[1], (method, path)
        assert answers[0][0] == 404, (method, path, answers[0])
        asked += 1
    assert asked > (25 if by == "id" else 10)


def test_all_of_that_is_there_for_its_owner_and_the_administrator(house: House) -> None:
    for method, path in OPERATIONS:
        if method != "GET":
            continue
        for who in ("ann", "admin"):
            status, body = house.ask(who, method, filled(path, house.things[kind_of(path)]), **body_for(method, path))
            has_none = status == 404 and isinstance(body, dict) and body["code"] in ("item_not_found", "file_not_found", "answers_not_kept")
            assert status in (200, 409, 503) or has_none, (who, path, status, body)


REFERENCES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "job of a dataset": ("dataset", "POST", "/jobs", {"json": {"dataset": "THING"}}),
    "quote": ("dataset", "POST", "/jobs?dry_run=true", {"json": {"dataset": "THING"}}),
    "job on a model": ("model", "POST", "/jobs", {"json": {"dataset": "OWN", "base_model": "THING"}}),
    "job on an alias": ("alias", "POST", "/jobs", {"json": {"dataset": "OWN", "base_model": "THING"}}),
    "parent": ("dataset", "POST", "/datasets?name=x&parent=THING", {"content": ARCHIVE, "headers": ZIP}),
    "ranking": ("dataset", "POST", "/transferability", {"json": {"dataset": "THING"}}),
    "candidate": ("model", "POST", "/transferability", {"json": {"dataset": "OWN", "candidates": ["THING"]}}),
    "alias to a model": ("model", "PUT", "/aliases/mine", {"json": {"model": "THING"}}),
    "alias to an alias": ("alias", "PUT", "/aliases/mine", {"json": {"model": "THING"}}),
    **{
        f"{path} {kind}": (kind, "POST", f"{path}?model=THING", {"content": WAV, "headers": {"Content-Type": "audio/wav"}})
        for path in ("/predict", "/embeddings", "/explanations")
        for kind in ("model", "alias")
    },
    "batch": ("model", "POST", "/predict/batch?model=THING", {"files": {"file": ("a.wav", WAV)}}),
}  # fmt: skip


def put(value: Any, **things: str) -> Any:
    if isinstance(value, dict):
        return {name: put(inner, **things) for name, inner in value.items()}
    if isinstance(value, list):
        return [put(inner, **things) for inner in value]
    return value.replace("THING", things["thing"]).replace("OWN", things["own"]) if isinstance(value, str) else value


def test_nor_can_it_be_used(house: House, make_dataset: Callable[..., str]) -> None:
    with seen_by(View("bob", sees_all=False)):
        own = make_dataset()
    for name, (kind, method, path, request) in REFERENCES.items():
        answers = [
            without(house.ask("bob", method, put(path, thing=thing, own=own), **put(request, thing=thing, own=own)), thing)
            for thing in (house.things[kind], ABSENT[kind])
        ]
        assert answers[0] == answers[1], name
        assert answers[0][0] == 404, (name, answers[0])


def test_nor_heard_by_a_socket(house: House) -> None:
    for kind in ("model", "alias"):
        assert house.socket("ann", f"/predict/stream?model={house.things[kind]}") == 101
        for named in (house.things, ABSENT):
            assert house.socket("bob", f"/predict/stream?model={named[kind]}") == 404


def test_lists_hold_what_the_caller_may_see(house: House) -> None:
    for path, kind in (("/datasets", "dataset"), ("/jobs", "job"), ("/models", "model"), ("/aliases", "alias")):
        key = "name" if kind == "alias" else "id"
        seen = {who: [row[key] for row in house.ask(who, "GET", path)[1]["data"]] for who in house.keys}
        assert seen == {"ann": [house.things[kind]], "bob": [], "admin": [house.things[kind]]}, path


def test_what_was_made_without_an_owner_is_the_administrators(house: House, make_model: Callable[..., str]) -> None:
    model = make_model(modality="image")
    assert {who: house.ask(who, "GET", f"/models/{model}")[0] for who in house.keys} == {"ann": 404, "bob": 404, "admin": 200}
    offered = {who: [row["id"] for row in house.ask(who, "GET", "/backbones")[1]["data"]] for who in house.keys}
    assert {who: model in ids for who, ids in offered.items()} == {"ann": False, "bob": False, "admin": True}
    assert all("bundled" in ids for ids in offered.values())


def test_a_deleted_thing_is_gone_for_its_owner_and_was_never_there_for_others(house: House, make_dataset: Callable[..., str]) -> None:
    with seen_by(View("ann", sees_all=False)):
        dataset = make_dataset(status="deleted")
    assert {who: house.ask(who, "GET", f"/datasets/{dataset}")[0] for who in house.keys} == {"ann": 410, "bob": 404, "admin": 410}


def test_each_owner_has_aliases_of_their_own(house: House, make_model: Callable[..., str]) -> None:
    with seen_by(View("bob", sees_all=False)):
        his = make_model()
    assert house.ask("bob", "PUT", "/aliases/hers", json={"model": his})[0] == 200
    sound = {"content": WAV, "headers": {"Content-Type": "audio/wav"}}
    heard = {who: house.ask(who, "POST", "/predict?model=hers", **sound)[1]["model"] for who in ("ann", "bob", "ann", "bob")}
    assert heard == {"ann": house.things["model"], "bob": his}
    assert house.ask("bob", "DELETE", "/aliases/hers")[0] == 200
    assert house.ask("bob", "DELETE", "/aliases/hers")[0] == 404
    assert house.ask("ann", "GET", "/models/hers")[0] == 200


def test_what_an_administrator_uses_its_owner_can_not_delete(house: House) -> None:
    model, dataset = house.things["model"], house.things["dataset"]
    assert house.ask("ann", "DELETE", "/aliases/hers")[0] == 200
    assert house.ask("ann", "POST", f"/jobs/{house.things['job']}/cancel")[0] == 202
    assert house.ask("admin", "PUT", "/aliases/live", json={"model": model})[0] == 200
    status, job = house.ask("admin", "POST", "/jobs", json={"dataset": dataset})
    assert status == 202
    for path in (f"/models/{model}", f"/datasets/{dataset}"):
        assert house.ask("ann", "DELETE", path)[0] == 409
    assert house.ask("admin", "DELETE", "/aliases/live")[0] == 200
    assert house.ask("admin", "POST", f"/jobs/{job['id']}/cancel")[0] == 202
    for path in (f"/models/{model}", f"/datasets/{dataset}"):
        assert house.ask("ann", "DELETE", path)[0] == 200


def test_an_idempotency_key_is_its_callers(house: House, make_dataset: Callable[..., str]) -> None:
    request = {
        "json": {"generator": "textures", "labels": 2, "items_per_label": 2, "image_size": 16},
        "headers": {"Idempotency-Key": "once"},
    }
    made = {who: house.ask(who, "POST", "/datasets", **request) for who in ("ann", "bob")}
    assert [status for status, _ in made.values()] == [202, 202], made
    assert made["ann"][1]["id"] != made["bob"][1]["id"]
    assert house.ask("ann", "POST", "/datasets", **request)[1]["id"] == made["ann"][1]["id"]


def test_at_the_door_each_caller_is_answered_by_a_model_of_their_own(settings: Settings, make_model: Callable[..., str]) -> None:
    """On connections that stay open, in turn: what one request has found must not answer the next one's."""
    keys = {who: create_key("read", owner=who)[0] for who in ("ann", "bob", "eve")}
    models = {}
    for who in ("ann", "bob"):
        with seen_by(View(who, sees_all=False)):
            models[who] = make_model(alias="default")
    gate = create_app(settings)
    through: list[str] = []
    framework = gate.app

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        through.append(scope["type"])
        await framework(scope, receive, send)

    gate.app = counted
    with serving(gate, http=Protocol) as (host, port), contextlib.ExitStack() as clients:
        ask = {
            who: clients.enter_context(
                httpx2.Client(base_url=f"http://{host}:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=20)
            )
            for who, key in keys.items()
        }
        for _ in range(2):  # the second time without the framework: names and engines are at hand
            through.clear()
            for who in ("ann", "bob", "ann", "bob"):
                assert ask[who].post("/predict", content=WAV, headers={"Content-Type": "audio/wav"}).json()["model"] == models[who]
                foreign = models["ann" if who == "bob" else "bob"]
                for name in (f"?model={foreign}", ""):
                    answer = ask["eve" if not name else who].post(f"/predict{name}", content=WAV, headers={"Content-Type": "audio/wav"})
                    assert answer.status_code == 404, answer.text
        assert through == ["http"] * 8, "only what is not found goes through it"
