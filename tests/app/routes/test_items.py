"""Single items: looked at, heard, seen; and which of them a model took for what."""

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select, update
from starlette.testclient import TestClient

from app.schemas.datasets import Item, MeasuredTransferList, Statistics
from app.schemas.models import JudgedItemList
from app.schemas.pictures import Spectrogram
from models.audio import decode_audio
from models.evaluation import evaluation_document
from tests.app.conftest import check_problem
from tests.conftest import picture_archive, sound_archive, tone, wav_bytes, zip_bytes
from worker.database import Job, Model, read, write
from worker.supervisor import supervise

SOUNDS = {
    f"{label}/{take}.wav": wav_bytes(tone(400 + 40 * take + 9 * len(label), 0.3, seed=take)) for label in ("no", "yes") for take in range(5)
}
ZIP = zip_bytes(SOUNDS | {"yes/bad.wav": b"RIFF, but not really"})


@pytest.fixture
def bring(client: TestClient) -> Callable[[bytes], str]:
    """Upload and read; return the dataset's id."""

    def brought(archive: bytes) -> str:
        response = client.post("/datasets", content=archive, headers={"Content-Type": "application/zip"}, params={"name": "set"})
        dataset: str = response.json()["id"]
        with read() as session:
            job = session.scalars(select(Job.id).where(Job.dataset_id == dataset)).one()
        supervise(job)
        return dataset

    return brought


def items_of(client: TestClient, dataset: str, **filters: str | int) -> dict[str, Item]:
    response = client.get(f"/datasets/{dataset}/items", params={"limit": 100, **filters})
    assert response.status_code == 200, response.text
    return {row["file_name"]: Item.model_validate(row) for row in response.json()["data"]}


def test_a_sound_is_heard_and_seen_as_it_is_trained_on(client: TestClient, bring: Callable[[bytes], str]) -> None:
    dataset = bring(ZIP)
    items = items_of(client, dataset)
    item = items["yes/3.wav"]
    path = f"/datasets/{dataset}/items/{item.id}"
    assert Item.model_validate(client.get(path).json()) == item
    response = client.get(f"{path}/content")
    headers = response.headers
    assert (response.status_code, headers["content-type"], headers["x-content-type-options"]) == (200, "audio/wav", "nosniff")
    assert int(headers["content-length"]) == len(response.content)
    assert headers["cache-control"].startswith("private")
    np.testing.assert_array_equal(decode_audio(response.content).waveform, decode_audio(SOUNDS["yes/3.wav"]).waveform)
    again = client.get(f"{path}/content", headers={"If-None-Match": headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", headers["etag"])
    picture = Spectrogram.model_validate(client.get(f"{path}/spectrogram").json())
    assert len(base64.b64decode(picture.levels)) == picture.bands * picture.frames
    assert (picture.duration_seconds, picture.frames) == (0.3, 31)

    rejected = items["yes/bad.wav"]
    assert (rejected.kept, rejected.status, item.kept) == (False, "rejected", True)
    problem = check_problem(client.get(f"/datasets/{dataset}/items/{rejected.id}/content"), 404, "item_not_kept")
    assert rejected.reasons[0] in problem["detail"]
    for wrong in ("itm_000099", "itm_0", "itm_x", "1", "itm_" + "9" * 30, "%2e%2e"):
        for end in ("", "/content", "/spectrogram"):
            check_problem(client.get(f"/datasets/{dataset}/items/{wrong}{end}"), 404, "item_not_found")
    check_problem(client.get("/datasets/ds_0/items/itm_000001/content"), 404, "dataset_not_found")
    client.delete(f"/datasets/{dataset}")
    check_problem(client.get(f"{path}/content"), 410, "dataset_deleted")


def test_a_picture_is_seen_pixel_for_pixel(client: TestClient, bring: Callable[[bytes], str]) -> None:
    dataset = bring(picture_archive(labels=2, items=3))
    item = next(iter(items_of(client, dataset).values()))
    path = f"/datasets/{dataset}/items/{item.id}"
    response = client.get(f"{path}/content")
    assert response.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(response.content)) as found:
        assert found.size == (item.width, item.height)
    check_problem(client.get(f"{path}/spectrogram"), 422, "modality_mismatch")


def test_a_player_may_ask_for_a_part(client: TestClient, bring: Callable[[bytes], str]) -> None:
    dataset = bring(ZIP)
    path = f"/datasets/{dataset}/items/{items_of(client, dataset)['yes/3.wav'].id}/content"
    whole = client.get(path)
    size, etag = len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, first, last in (("bytes=0-1", 0, 1), ("bytes=44-", 44, size - 1), ("bytes=-10", size - 10, size - 1)):  # as Safari begins
        part = client.get(path, headers={"Range": asked, "If-Range": etag})
        assert (part.status_code, part.content) == (206, whole.content[first : last + 1])
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert int(part.headers["content-length"]) == last + 1 - first
        assert [part.headers[name] for name in ("etag", "content-type", "accept-ranges")] == [etag, "audio/wav", "bytes"]
    refused = client.get(path, headers={"Range": f"bytes={size}-"})
    check_problem(refused, 416, "range_not_satisfiable")
    assert refused.headers["content-range"] == f"bytes */{size}"
    for headers in (
        {"Range": "bytes=0-1,4-5"},
        {"Range": "bytes=0-1", "If-Range": '"older"'},
        {"Range": "bytes=0-1", "If-Range": f"W/{etag}"},
    ):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.content) == (200, whole.content)
    known = client.get(path, headers={"Range": "bytes=0-1", "If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")


@pytest.fixture
def judged(client: TestClient, bring: Callable[[bytes], str], make_model: Callable[..., str]) -> tuple[str, str]:
    """A dataset, and a model that judged it as a job would have it: it takes the first "no" of the test items for "yes"."""
    dataset, model = bring(ZIP), make_model()
    tested = list(items_of(client, dataset, split="test").values())
    truth = [("no", "yes", "stop").index(item.label or "") for item in tested]
    predicted = [1 if place == truth.index(0) else label for place, label in enumerate(truth)]
    wrong = tested[truth.index(0)]
    suspects = [{"file_name": wrong.file_name, "split": "test", "label": "no", "predicted": "yes", "probability": 0.97}]
    with write() as session:
        answers = {"test": {"truth": truth, "predicted": predicted, "groups": [-1] * len(truth)}}
        values = {"dataset_id": dataset, "predictions": answers, "evaluation": evaluation_document({}, suspects=suspects)}
        session.execute(update(Model).where(Model.id == model).values(**values))
    return dataset, model


def test_the_clips_behind_a_cell(client: TestClient, judged: tuple[str, str], make_model: Callable[..., str]) -> None:
    dataset, model = judged
    path = f"/models/{model}/evaluation/items"
    tested = items_of(client, dataset, split="test")
    counted = 0
    for label in ("no", "yes"):
        for predicted in ("no", "yes", "stop"):
            found = JudgedItemList.model_validate(client.get(path, params={"label": label, "predicted": predicted}).json())
            assert all((row.label, row.predicted, row.split) == (label, predicted, "test") for row in found.data)
            assert all(row.file_name in tested and row.kept for row in found.data)
            counted += len(found.data)
            assert len(found.data) == (1 if (label, predicted) == ("no", "yes") else len(found.data))
    assert counted == len(tested)
    assert client.get(path, params={"label": "no", "predicted": "elsewhere"}).json()["data"] == []
    check_problem(client.get(path, params={"label": "no", "predicted": "no", "split": "train"}), 404, "answers_not_kept")
    check_problem(client.get(path, params={"label": "no"}), 422, "validation_error")
    other = make_model()
    check_problem(client.get(f"/models/{other}/evaluation/items", params={"label": "no", "predicted": "no"}), 404, "answers_not_kept")


def test_what_a_model_doubts_is_suspect(client: TestClient, judged: tuple[str, str], make_model: Callable[..., str]) -> None:
    dataset, model = judged
    (found,) = items_of(client, dataset, status="suspect").values()
    assert (found.status, found.reasons, found.label) == ("suspect", ["label_doubted"], "no")
    assert found.doubt is not None
    assert (found.doubt.model, found.doubt.predicted, found.doubt.probability) == (model, "yes", 0.97)
    everything, accepted = items_of(client, dataset), items_of(client, dataset, status="accepted")
    assert found.file_name not in accepted
    assert everything[found.file_name] == found
    assert len(accepted) == len(everything) - 2  # it and the rejected one
    assert Item.model_validate(client.get(f"/datasets/{dataset}/items/{found.id}").json()) == found
    newer = make_model()  # a checkpoint's evaluation judges no single item
    with write() as session:
        session.execute(update(Model).where(Model.id == newer).values(dataset_id=dataset))
    assert list(items_of(client, dataset, status="suspect")) == [found.file_name]
    client.delete(f"/models/{model}")
    assert items_of(client, dataset, status="suspect") == {}


def test_how_items_are_spread(client: TestClient, bring: Callable[[bytes], str]) -> None:
    dataset = bring(sound_archive(words=2, speakers=3, takes=2))
    found = Statistics.model_validate(client.get(f"/datasets/{dataset}/statistics").json())
    assert found.durations is not None
    assert (found.durations.shortest, found.durations.median, found.durations.longest) == (0.5, 0.5, 0.5)
    assert (sum(found.durations.counts), found.durations.counts[-1]) == (12, 12)
    assert len(found.durations.edges) == len(found.durations.counts) + 1
    assert [(row.group, row.items, row.duration_seconds) for row in found.groups] == [(f"speaker{number}", 4, 2.0) for number in range(3)]
    assert all(sum(row.splits.values()) == row.items for row in found.groups)
    pictures = bring(picture_archive(labels=2, items=3))
    assert client.get(f"/datasets/{pictures}/statistics").json() == {
        "object": "statistics", "dataset": pictures, "durations": None, "groups": []
    }  # fmt: skip
    check_problem(client.get("/datasets/ds_0/statistics"), 404, "dataset_not_found")


def test_what_transfers_were_worth_by_the_number_of_items(
    client: TestClient, bring: Callable[[bytes], str], make_model: Callable[..., str]
) -> None:
    dataset, model = bring(ZIP), make_model(name="digits")
    transfer = {"verdict": "neutral", "gain": 0.0, "interval_95": [-0.1, 0.1], "split": "test", "n": 20, "accuracy": 0.9}
    with write() as session:
        session.execute(update(Model).where(Model.id == model).values(dataset_id=dataset, evaluation={"transfer": transfer}))
    answer = client.get(f"/datasets/{dataset}/transfers").json()
    (found,) = MeasuredTransferList.model_validate(answer).data
    counts = client.get(f"/datasets/{dataset}").json()["per_label"]
    assert (found.model, found.name, found.dataset, found.own.accuracy, found.scratch.accuracy) == (model, "digits", dataset, 0.9, 0.9)
    assert {row["train"] for row in counts.values()} == {found.items_per_label}
    assert (answer["first_id"], answer["last_id"], answer["has_more"]) == (model, model, False)
    check_problem(client.get("/datasets/ds_0/transfers"), 404, "dataset_not_found")
