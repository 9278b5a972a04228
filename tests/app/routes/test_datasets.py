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
