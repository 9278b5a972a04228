"""What is sent by mistake or in malice, to a running service: a verdict or a 4xx problem, never a 5xx, and the service goes on."""

import struct
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from app.client import Client, Json
from tests.conftest import png_bytes, tone, wav_bytes, zip_bytes
from tests.service import Service, wait_until

pytestmark = pytest.mark.xdist_group("service")
PROBLEM = "application/problem+json"


def flac_with_a_broken_body() -> bytes:
    import io

    import soundfile

    sink = io.BytesIO()
    soundfile.write(sink, tone(440, 1, seed=1), 16000, format="FLAC")
    data = bytearray(sink.getvalue())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    return bytes(data)


def nan_wav() -> bytes:
    body = np.full(8000, np.nan, np.float32).tobytes()
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 3, 1, 16000, 64000, 4, 32, b"data", len(body))
    return header + body


GARBAGE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"hello, what do you hear?",
    "zeros": lambda: bytes(5000),
    "cut": lambda: wav_bytes(tone(440, 1))[:2000],
    "header only": lambda: wav_bytes(tone(440, 1))[:44],
    "too short": lambda: wav_bytes(tone(440, 0.005)),
    "too long": lambda: wav_bytes(np.zeros(61 * 8000, np.float32), 8000),
    "nan": nan_wav,
    "broken flac": flac_with_a_broken_body,
    "a picture": lambda: png_bytes(np.zeros((16, 16), np.uint8)),
    "an archive": lambda: zip_bytes({"a/b.wav": b"x"}),
    "a lying riff": lambda: b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\x7f" + bytes(100),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_predict_refuses_with_a_reason(service: Service, transferred: Json, kind: str) -> None:
    del transferred
    response = httpx2.post(f"{service.url}/predict", content=GARBAGE[kind](), headers={"Content-Type": "audio/wav"})
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["content-type"] == PROBLEM
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["detail"]
    assert (
        httpx2.post(f"{service.url}/predict", content=wav_bytes(tone(600, 0.5)), headers={"Content-Type": "audio/wav"}).status_code == 200
    )


def test_silence_is_answered_with_a_warning(service: Service, transferred: Json) -> None:
    del transferred
    response = httpx2.post(f"{service.url}/predict", content=wav_bytes(np.zeros(8000, np.float32)), headers={"Content-Type": "audio/wav"})
    assert response.status_code == 200
    assert response.json()["warnings"] == ["silence"]


def test_garbage_among_good_files_is_listed_and_left_out(client: Client, tmp_path: Path) -> None:
    good = {
        f"{word}/{take}.wav": wav_bytes(tone(hertz, 0.3, seed=take)) for word, hertz in (("low", 300), ("high", 900)) for take in range(6)
    }
    bad = {f"low/bad-{kind.replace(' ', '-')}.wav": make() for kind, make in GARBAGE.items()}
    path = tmp_path / "mixed.zip"
    path.write_bytes(zip_bytes({**good, **bad}))
    dataset = client.wait_dataset(str(client.upload_dataset(path, name="mixed")["id"]))
    assert dataset["status"] == "ready", dataset
    assert (dataset["items"], dataset["rejected"]) == (len(good), len(bad))
    rejected = list(client.pages(f"/datasets/{dataset['id']}/items", status="rejected"))
    assert {item["file_name"] for item in rejected} == set(bad)
    assert all(item["reasons"] for item in rejected)


@pytest.mark.parametrize(
    ("name", "code"),
    [("../../etc/passwd", "archive_path_unsafe"), ("/etc/passwd", "archive_path_unsafe"), ("a\\b.wav", "archive_path_unsafe")],
)
def test_a_slipping_archive_is_refused_at_once(service: Service, name: str, code: str) -> None:
    response = httpx2.post(
        f"{service.url}/datasets", params={"name": "slip"}, content=zip_bytes({name: b"x", "a/x.wav": b"y"}),
        headers={"Content-Type": "application/zip"},
    )  # fmt: skip
    assert (response.status_code, response.json()["code"]) == (422, code)


def test_a_label_without_a_good_file_fails_the_dataset_by_name(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "empty-label.zip"
    path.write_bytes(zip_bytes({"good/1.wav": wav_bytes(tone(300)), "good/2.wav": wav_bytes(tone(310)), "poor/1.wav": b"no sound"}))
    dataset = client.wait_dataset(str(client.upload_dataset(path, name="poor")["id"]))
    assert dataset["status"] == "failed"
    assert "poor" in dataset["error"]["message"]


def test_a_job_that_can_not_be_done_fails_soon_and_says_why(client: Client, sounds: Json) -> None:
    body = {"dataset": sounds["id"], "base_model": "timm/resnet18", "transfer": {"mode": "full"}}
    job_id = str(client.post("/jobs", body)["id"])
    job = wait_until(lambda: _ended(client, job_id), 60)
    assert job["status"] == "failed"
    assert job["error"]["code"] == "weights_unavailable"
    assert job["attempt"] == 1


def _ended(client: Client, job_id: str) -> Json | None:
    job = client.get(f"/jobs/{job_id}")
    return job if job["finished_at"] else None
