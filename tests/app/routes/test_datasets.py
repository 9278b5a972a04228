import concurrent.futures
import io
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from app.schemas.datasets import Dataset, DatasetList
from tests.app.conftest import check_problem, exchange, wait_until
from tests.conftest import tone, wav_bytes, zip_bytes
from worker.settings import Settings

ZIP = zip_bytes({f"{label}/{number}.wav": wav_bytes(tone(200 * label + number, 0.1)) for label in (1, 2) for number in range(3)})
AS_ZIP = {"Content-Type": "application/zip"}


def upload(
    client: TestClient, content: bytes = ZIP, *, kind: str = "application/zip", key: str | None = None, **params: str
) -> httpx2.Response:
    headers = {"Content-Type": kind} | ({"Idempotency-Key": key} if key else {})
    return client.post("/datasets", content=content, headers=headers, params=params or {"name": "digits"})


def left_behind(settings: Settings) -> list[Path]:
    return list(settings.scratch_dir.glob("upload-*"))


def test_a_raw_archive_is_taken(client: TestClient, settings: Settings) -> None:
    response = upload(client, name="digits", modality="audio")
    assert response.status_code == 202
    dataset = Dataset.model_validate(response.json())
    assert (dataset.name, dataset.modality, dataset.status, dataset.size_bytes) == ("digits", "audio", "processing", len(ZIP))
    assert response.headers["location"] == f"/datasets/{dataset.id}"
    assert client.get(response.headers["location"]).json() == response.json()
    assert left_behind(settings) == []


def test_a_form_is_taken(client: TestClient) -> None:
    response = client.post("/datasets", data={"name": "zwölf", "modality": "audio"}, files={"file": ("../x.zip", ZIP)})
    assert response.status_code == 202
    assert Dataset.model_validate(response.json()).name == "zwölf"


@pytest.mark.parametrize(("mode", "kind"), [("w", "application/x-tar"), ("w:gz", "application/gzip"), ("w:gz", "application/octet-stream")])
def test_tars_are_taken(client: TestClient, mode: str, kind: str) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:  # type: ignore[call-overload]  # the mode is one of its literals
        for name in ("a/1.wav", "b/1.wav"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            tar.addfile(entry, io.BytesIO(b"sound"))
    assert upload(client, sink.getvalue(), kind=kind).status_code == 202


def test_wrong_uploads(client: TestClient, settings: Settings) -> None:
    evil = zip_bytes({"../evil/1.wav": b"x", "a/1.wav": b"y"})
    cases: list[tuple[httpx2.Response, int, str]] = [
        (upload(client, kind="text/plain"), 415, "unsupported_media_type"),
        (upload(client, kind="application/x-tar"), 415, "unsupported_media_type"),
        (upload(client, b"not an archive"), 415, "unsupported_media_type"),
        (upload(client, b""), 422, "validation_error"),
        (upload(client, modality="audio"), 422, "validation_error"),
        (upload(client, name="a\u202eb"), 422, "validation_error"),
        (upload(client, name="a", modality="video"), 422, "validation_error"),
        (upload(client, name="a", parent="ds_0123"), 404, "dataset_not_found"),
        (upload(client, name="a", parent="../x"), 422, "validation_error"),
        (upload(client, key="with space"), 400, "header_invalid"),
        (upload(client, key="k" * 201), 400, "header_invalid"),
        (upload(client, evil), 422, "archive_path_unsafe"),
        (upload(client, ZIP[: len(ZIP) // 2]), 422, "archive_unreadable"),
        (client.post("/datasets", data={"name": "x"}, files={"fiel": ("x.zip", ZIP)}), 422, "validation_error"),
        (client.post("/datasets?name=x", content=ZIP, headers={"Content-Type": "multipart/form-data"}), 400, "malformed_multipart"),
        (client.post("/datasets?name=x", content=ZIP, headers=AS_ZIP | {"Content-Encoding": "gzip"}), 415, "unsupported_media_type"),
    ]
    for response, status, code in cases:
        check_problem(response, status, code)
    assert client.get("/datasets").json()["data"] == []
    assert left_behind(settings) == []


def test_a_key_makes_one_dataset_of_many_requests(client: TestClient) -> None:
    first = upload(client, key="k1")
    again = upload(client, key="k1")
    assert (again.status_code, again.json(), again.headers["location"]) == (202, first.json(), first.headers["location"])
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    check_problem(upload(client, key="k1", name="other"), 422, "idempotency_mismatch")
    check_problem(upload(client, zip_bytes({"a/1.wav": b"x"}), key="k1"), 422, "idempotency_mismatch")
    assert upload(client, key="k2").json()["id"] != first.json()["id"]
    assert len(client.get("/datasets").json()["data"]) == 2


def test_a_key_is_free_again_after_a_refusal(client: TestClient) -> None:
    check_problem(upload(client, zip_bytes({"../a": b"x"}), key="k1"), 422, "archive_path_unsafe")
    assert upload(client, key="k1").status_code == 202


def test_a_key_may_be_raced_for(client: TestClient) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: upload(client, key="race"), range(8)))
    made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    for answer in answers:
        if answer.status_code != 202:
            check_problem(answer, 409, "idempotency_in_progress")
    assert len(client.get("/datasets").json()["data"]) == 1


FORMULA = {"generator": "fractals", "labels": 5, "items_per_label": 4, "seed": 7, "image_size": 24}


def test_pictures_by_formula_are_asked_for_as_json(client: TestClient, settings: Settings) -> None:
    response = client.post("/datasets", json=FORMULA | {"name": "shapes"})
    assert response.status_code == 202
    dataset = Dataset.model_validate(response.json())
    assert (dataset.name, dataset.modality, dataset.status, dataset.size_bytes) == ("shapes", "image", "processing", 5 * 4 * 24 * 24 * 3)
    assert response.json()["generator"] == FORMULA
    assert response.headers["location"] == f"/datasets/{dataset.id}"
    assert client.get(response.headers["location"]).json() == response.json()
    assert client.get("/datasets").json()["data"] == [response.json()]
    assert client.get("/jobs").json()["data"] == []
    assert left_behind(settings) == []


def test_only_the_generator_has_to_be_named(client: TestClient) -> None:
    made = client.post("/datasets", json={"generator": "mixed"}).json()
    assert made["name"] == "mixed-1000x100"
    assert made["generator"] == {"generator": "mixed", "labels": 1000, "items_per_label": 100, "seed": 0, "image_size": 32}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"generator": "kittens"}, "/generator"),
        ({"labels": 1}, "/labels"),
        ({"labels": 5001}, "/labels"),
        ({"labels": 5.5}, "/labels"),
        ({"items_per_label": 0}, "/items_per_label"),
        ({"labels": 1001, "items_per_label": 1000}, "/items_per_label"),
        ({"items_per_label": 5000, "image_size": 128}, "/items_per_label"),
        ({"seed": -1}, "/seed"),
        ({"image_size": 129}, "/image_size"),
        ({"name": "a\u202eb"}, "/name"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_wrong_values_of_a_formula_are_named(client: TestClient, changes: dict[str, object], pointer: str) -> None:
    response = client.post("/datasets", json=FORMULA | changes)
    assert response.status_code == 422
    body = check_problem(response, 422, response.json()["code"])
    assert [error["pointer"] for error in body["errors"]] == [pointer]
    assert client.get("/datasets").json()["data"] == []


def test_a_formula_without_a_generator_is_none(client: TestClient) -> None:
    body = check_problem(client.post("/datasets", json={"labels": 5}), 422, "validation_error")
    assert [error["pointer"] for error in body["errors"]] == ["/generator"]


def test_broken_json_is_malformed(client: TestClient) -> None:
    check_problem(client.post("/datasets", content=b"{", headers={"Content-Type": "application/json"}), 400, "malformed_json")


def test_parameters_of_the_address_belong_to_archives(client: TestClient) -> None:
    body = check_problem(client.post("/datasets?name=x&modality=image", json=FORMULA), 422, "validation_error")
    assert [error["pointer"] for error in body["errors"]] == ["/query/name", "/query/modality"]


def test_json_may_be_as_long_as_elsewhere(client: TestClient, settings: Settings) -> None:
    """The address takes archives of gigabytes; they must not be kept in memory because they say that they are JSON."""
    content = b'{"name": "' + b"x" * settings.max_json_bytes + b'"}'
    for kind in ("application/json", "application/problem+json; charset=utf-8"):
        check_problem(client.post("/datasets", content=content, headers={"Content-Type": kind}), 413, "body_too_large")


def test_a_key_makes_one_generated_dataset(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    first, again = (client.post("/datasets", json=FORMULA, headers=headers) for _ in range(2))
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    check_problem(client.post("/datasets", json=FORMULA | {"seed": 8}, headers=headers), 422, "idempotency_mismatch")
    check_problem(upload(client, key="k1"), 422, "idempotency_mismatch")
    assert client.post("/datasets", json=FORMULA).json()["id"] != first.json()["id"]
    assert len(client.get("/datasets").json()["data"]) == 2


def test_pictures_that_the_disk_has_no_room_for(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"total": 10**9, "free": 10**8})
    monkeypatch.setattr("worker.generated.shutil.disk_usage", lambda _: usage)
    body = check_problem(client.post("/datasets", json={"generator": "fractals"}), 507, "insufficient_storage")
    assert "0.3 GB" in body["detail"]
    assert client.get("/datasets").json()["data"] == []


def test_lists_are_paged_newest_first(client: TestClient, make_dataset: Callable[..., str]) -> None:
    made = [make_dataset(name=f"n{number}") for number in range(5)]
    seen: list[str] = []
    after: str | None = None
    while True:
        page = DatasetList.model_validate(client.get("/datasets", params={"limit": 2} | ({"after": after} if after else {})).json())
        assert (page.first_id, page.last_id) == (page.data[0].id, page.data[-1].id)
        seen += [row.id for row in page.data]
        after = page.last_id
        if not page.has_more:
            break
    assert seen == sorted(made, reverse=True)
    assert client.get("/datasets?status=failed").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_deleting(client: TestClient, make_dataset: Callable[..., str]) -> None:
    dataset = make_dataset()
    job = client.post("/jobs", json={"dataset": dataset}).json()["id"]
    check_problem(client.delete(f"/datasets/{dataset}"), 409, "dataset_in_use")
    client.post(f"/jobs/{job}/cancel")
    assert client.delete(f"/datasets/{dataset}").json() == {"id": dataset, "object": "dataset", "deleted": True}
    for response in (client.get(f"/datasets/{dataset}"), client.get(f"/datasets/{dataset}/items"), client.delete(f"/datasets/{dataset}")):
        check_problem(response, 410, "dataset_deleted")
    check_problem(client.post("/jobs", json={"dataset": dataset}), 410, "dataset_deleted")
    assert client.get("/datasets").json()["data"] == []


def test_items_come_once_it_is_ready(client: TestClient) -> None:
    dataset = upload(client).json()["id"]
    check_problem(client.get(f"/datasets/{dataset}/items"), 409, "dataset_not_ready")
    check_problem(client.post("/jobs", json={"dataset": dataset}), 409, "dataset_not_ready")
    check_problem(client.delete(f"/datasets/{dataset}"), 409, "dataset_in_use")


def test_a_full_disk_takes_no_more(change_setting: Callable[..., Settings], make_dataset: Callable[..., str]) -> None:
    from app.main import create_app

    dataset = make_dataset()
    with TestClient(create_app(change_setting(min_free_fraction=1.0))) as client:
        for response in (upload(client), client.post("/jobs", json={"dataset": dataset}), client.post("/models", content=b"x")):
            check_problem(response, 507, "insufficient_storage")
        assert client.get(f"/datasets/{dataset}").status_code == 200


def test_nothing_is_left_of_an_upload_that_broke_off(live: tuple[str, int], settings: Settings) -> None:
    head = b"POST /datasets?name=x HTTP/1.1\r\nHost: x\r\nContent-Type: application/zip\r\nContent-Length: 5000000\r\n\r\n"
    with socket.create_connection(live, timeout=5) as connection:
        connection.sendall(head + b"x" * 2_000_000)
        wait_until(lambda: left_behind(settings), what="the upload to begin")
    wait_until(lambda: not left_behind(settings), what="the upload to be removed")
    assert exchange(live, b"GET /datasets HTTP/1.1\r\nHost: x\r\n\r\n")[2].startswith(b'{"object":"list","data":[]')
