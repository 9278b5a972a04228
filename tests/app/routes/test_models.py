import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from app.schemas.models import AliasList, BackboneList, Evaluation, Model, ModelList, TransferWorth
from models.verdict import Arm, Comparison, judge
from tests.app.conftest import LABELS, check_problem
from tests.conftest import tone, wav_bytes
from worker import database as row
from worker.database import write
from worker.settings import Settings

TAR = {"Content-Type": "application/x-tar"}


def tar_of(files: dict[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, "/etc/passwd"
            tar.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


@pytest.fixture
def files(speech_artifact: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in speech_artifact.iterdir()}


def test_a_model_is_shown(client: TestClient, make_model: Callable[..., str]) -> None:
    model_id = make_model(name="digits-v1", alias="digits")
    model = Model.model_validate_json(client.get(f"/models/{model_id}").content)
    assert (model.id, model.name, model.labels, model.aliases) == (model_id, "digits-v1", list(LABELS), ["digits"])
    assert client.get("/models/digits").json()["id"] == model_id
    assert sum(layer.parameters for layer in model.layers) <= model.parameters
    assert Evaluation.model_validate(client.get("/models/digits/evaluation").json()).model == model_id


def test_models_are_listed(client: TestClient, make_model: Callable[..., str]) -> None:
    heard, seen = make_model(name="a"), make_model(modality="image", name="b")

    def found(query: str) -> list[str]:
        return [row.id for row in ModelList.model_validate_json(client.get(f"/models?{query}").content).data]

    assert found("") == [seen, heard]
    assert found("modality=audio") == [heard]
    assert found("name=b") == [seen]
    assert found("name=c") == []
    assert found(f"after={seen}&limit=1") == [heard]
    check_problem(client.get("/models?name="), 422, "validation_error")
    check_problem(client.get("/models?name=a%00"), 422, "validation_error")


def test_an_artifact_comes_back_as_it_went(client: TestClient, make_model: Callable[..., str], files: dict[str, bytes]) -> None:
    model_id = make_model()
    response = client.get(f"/models/{model_id}/artifact")
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-disposition"] == f'attachment; filename="{model_id}.tar"'
    assert int(response.headers["content-length"]) == len(response.content)
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == files  # type: ignore[union-attr]  # regular files only
    imported = client.post("/models?name=again", content=response.content, headers=TAR)
    assert imported.status_code == 201
    copy = Model.model_validate_json(imported.content)
    assert imported.headers["location"] == f"/models/{copy.id}"
    assert (copy.name, copy.sha256) == ("again", Model.model_validate_json(client.get(f"/models/{model_id}").content).sha256)
    assert client.get(f"/models/{copy.id}/artifact").content.startswith(response.content[:100])


def test_a_verdict_that_came_later_is_taken_along(client: TestClient, make_model: Callable[..., str], files: dict[str, bytes]) -> None:
    model_id = make_model()
    worth = judge(Comparison("bundled", arm("", 90), [arm("scratch", 50)]))
    with write() as session:
        session.execute(update(row.Model).where(row.Model.id == model_id).values(evaluation={"splits": {}, "transfer": worth}))
    told = client.get(f"/models/{model_id}/evaluation").json()
    assert Evaluation.model_validate(told).transfer == TransferWorth.model_validate(worth)
    response = client.get(f"/models/{model_id}/artifact")
    assert int(response.headers["content-length"]) == len(response.content)
    found = unpacked(response.content)
    assert {name for name in files if files[name] != found[name]} == {"evaluation.json", "model.json"}
    imported = client.post("/models", content=response.content, headers=TAR)
    assert imported.status_code == 201, "the hashes in model.json are those of the new files"
    copy = client.get(f"/models/{imported.json()['id']}/evaluation").json()
    assert copy["transfer"] == worth
    assert unpacked(client.get(f"/models/{imported.json()['id']}/artifact").content) == found


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # regular files only


def arm(name: str, right: int) -> Arm:
    truth = [0] * 100
    answers = {"test": {"predicted": [int(place >= right) for place in range(100)], "truth": truth, "groups": [-1] * 100}}
    return Arm(name, 0, f"job_{name}", "succeeded", f"mdl_{name}", answers)


def test_the_graph_alone(client: TestClient, make_model: Callable[..., str], files: dict[str, bytes]) -> None:
    path = f"/models/{make_model()}/onnx"
    assert client.get(path).content == files["model.onnx"]
    part = client.get(path, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, files["model.onnx"][2:6])
    response = client.get(path, headers={"Range": "bytes=99999999-"})
    check_problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"].endswith(f"/{len(files['model.onnx'])}")


def test_a_form_and_a_key_work_for_imports(client: TestClient, files: dict[str, bytes]) -> None:
    artifact = tar_of(files)
    first, again = (
        client.post("/models", data={"name": "n"}, files={"file": ("m.tar", artifact)}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert (first.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert again.headers["idempotent-replayed"] == "true"


def damaged(files: dict[str, bytes], name: str, change: Callable[[bytes], bytes]) -> bytes:
    return tar_of(files | {name: change(files[name])})


def other_golden(files: dict[str, bytes], content: bytes) -> dict[str, bytes]:
    """Other golden clips, and the description with their hash."""
    document = json.loads(files["model.json"])
    document["files"]["golden.safetensors"] = hashlib.sha256(content).hexdigest()
    return {"golden.safetensors": content, "model.json": json.dumps(document).encode()}


def other_weights(files: dict[str, bytes], header: bytes, *, told: int | None = None) -> bytes:
    """Weights with another header, and the description with their hash: only what the header says is false. `told`: of its length."""
    content = (len(header) if told is None else told).to_bytes(8, "little") + header + b"\0" * 64
    document = json.loads(files["model.json"])
    document["files"]["model.safetensors"] = hashlib.sha256(content).hexdigest()
    return tar_of(files | {"model.safetensors": content, "model.json": json.dumps(document).encode()})


def tensor(shape: list[int], start: int, end: int) -> bytes:
    return json.dumps({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}).encode()


ATTACKS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "other file": lambda files: tar_of(files | {"extra.exe": b"x"}),
    "pickle": lambda _: tar_of({"model.pt": b"\x80\x04."}),
    "way out": lambda files: tar_of({"../model.json": files["model.json"]} | files),
    "absolute": lambda files: tar_of({"/srv/model.json": files["model.json"]} | files),
    "link": lambda _: tar_of({"model.safetensors": b""}, kind=tarfile.SYMTYPE),
    "device": lambda _: tar_of({"model.safetensors": b""}, kind=tarfile.CHRTYPE),
    "no weights": lambda files: tar_of({name: content for name, content in files.items() if name != "model.safetensors"}),
    "nothing": lambda _: tar_of({}),
    "changed weights": lambda files: damaged(files, "model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "changed graph": lambda files: damaged(files, "model.onnx", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "description that is no JSON": lambda files: damaged(files, "model.json", lambda _: b"{"),
    "description of another format": lambda files: damaged(files, "model.json", lambda data: data.replace(b'"format": 1', b'"format": 2')),
    "changed golden clips": lambda files: damaged(files, "golden.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
    "golden clips that are none": lambda files: tar_of(files | other_golden(files, b"none")),
    "header longer than the file": lambda files: other_weights(files, b"{}", told=2**62),
    "header of 100 MB": lambda files: other_weights(files, b"{}", told=100_000_001),
    "header that is no JSON": lambda files: other_weights(files, b"\x80\x04."),
    "deep header": lambda files: other_weights(files, b"[" * 100_000),
    "tensor beyond the end": lambda files: other_weights(files, b'{"a":' + tensor([2**40], 0, 2**42) + b"}"),
    "shape that overflows": lambda files: other_weights(files, b'{"a":' + tensor([2**63, 2], 0, 64) + b"}"),
    "tensors that overlap": lambda files: other_weights(files, b'{"a":' + tensor([16], 0, 64) + b',"b":' + tensor([16], 0, 64) + b"}"),
    "tensor backwards": lambda files: other_weights(files, b'{"a":' + tensor([16], 64, 0) + b"}"),
    "deep description": lambda files: damaged(files, "model.json", lambda _: b"[" * 100_000),
    "evaluation that is no object": lambda files: damaged(files, "evaluation.json", lambda _: b"[1]"),
    "cut short": lambda files: tar_of(files)[: len(tar_of(files)) // 2],
    "twice the same": lambda files: tar_of(files)[:-1024] + tar_of(files),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_artifacts_that_are_not_to_be_trusted(
    client: TestClient, settings: Settings, files: dict[str, bytes], attack: Callable[[dict[str, bytes]], bytes]
) -> None:
    response = client.post("/models", content=attack(files), headers=TAR)
    if attack is ATTACKS["twice the same"]:  # which is harmless
        assert Model.model_validate_json(response.content).labels == list(LABELS)
        return
    assert response.status_code in (415, 422), response.text
    check_problem(response, response.status_code, response.json()["code"])
    assert client.get("/models").json()["data"] == []
    assert [path.name for path in settings.scratch_dir.glob("*")] == []


def test_only_plain_tars_are_artifacts(client: TestClient, files: dict[str, bytes]) -> None:
    import gzip

    from tests.conftest import zip_bytes

    for content, kind in ((gzip.compress(tar_of(files)), "application/octet-stream"), (zip_bytes(files), "application/octet-stream")):
        check_problem(client.post("/models", content=content, headers={"Content-Type": kind}), 422, "artifact_invalid")
    check_problem(client.post("/models", content=b"x", headers={"Content-Type": "application/zip"}), 415, "unsupported_media_type")


def test_aliases_move_and_protect(client: TestClient, make_model: Callable[..., str]) -> None:
    old, new = make_model(), make_model()
    for model_id in (old, new, old):
        response = client.put("/aliases/digits", json={"model": model_id})
        assert (response.status_code, response.json()["model"]) == (200, model_id)
        assert client.get("/models/digits").json()["id"] == model_id
    client.put("/aliases/other", json={"model": "digits"})
    assert [(row.name, row.model) for row in AliasList.model_validate(client.get("/aliases").json()).data] == [
        ("digits", old),
        ("other", old),
    ]
    check_problem(client.delete(f"/models/{old}"), 409, "model_in_use")
    check_problem(client.put("/aliases/digits", json={"model": "mdl_0"}), 404, "model_not_found")
    check_problem(client.put("/aliases/digits", json={"model": "A"}), 422, "validation_error")
    check_problem(client.put("/aliases/digits", json={}), 422, "validation_error")
    for name in ("digits", "other"):
        assert client.delete(f"/aliases/{name}").json() == {"id": name, "object": "alias", "deleted": True}
        check_problem(client.delete(f"/aliases/{name}"), 404, "alias_not_found")
    assert client.delete(f"/models/{old}").status_code == 200
    for response in (client.get(f"/models/{old}"), client.get(f"/models/{old}/artifact"), client.delete(f"/models/{old}")):
        check_problem(response, 410, "model_deleted")
    check_problem(client.put("/aliases/digits", json={"model": old}), 410, "model_deleted")
    assert [row["id"] for row in client.get("/models").json()["data"]] == [new]


def test_a_model_tells_of_its_golden_clips(client: TestClient, make_model: Callable[..., str], files: dict[str, bytes]) -> None:
    model = Model.model_validate_json(client.get(f"/models/{make_model()}").content)
    assert model.golden is not None
    assert model.golden.clips == 3
    assert set(model.golden.made_with) == {"onnxruntime", "numpy", "soxr"}
    assert "golden.safetensors" in files


def test_an_alias_does_not_move_to_a_model_that_answers_otherwise(
    client: TestClient, make_model: Callable[..., str], spoiled_artifact: Path
) -> None:
    old, new = make_model(alias="digits"), make_model(artifact=spoiled_artifact)
    problem = check_problem(client.put("/aliases/digits", json={"model": new}), 409, "promotion_refused")
    assert f"model {new} does not answer as when it was made" in problem["detail"]
    assert "'noise' is answered 0.05 off, 0.001 is the limit" in problem["detail"]
    assert client.get("/models/digits").json()["id"] == old
    check_problem(client.put("/aliases/other", json={"model": new}), 409, "promotion_refused")
    check_problem(client.get("/models/other"), 404, "model_not_found")
    sound = wav_bytes(tone(440, 0.5))
    answered = client.post(f"/predict?model={new}", content=sound, headers={"Content-Type": "audio/wav"})
    assert (answered.status_code, answered.json()["model"]) == (200, new), "it can still be tried by its id"


def test_a_move_takes_effect_at_once(client: TestClient, make_model: Callable[..., str]) -> None:
    models = [make_model(), make_model()]
    sound = wav_bytes(tone(440, 0.5))
    for turn in range(6):
        assert client.put("/aliases/default", json={"model": models[turn % 2]}).status_code == 200
        assert client.post("/predict", content=sound, headers={"Content-Type": "audio/wav"}).json()["model"] == models[turn % 2]


def test_a_model_of_an_older_version_is_taken_and_promoted(client: TestClient, files: dict[str, bytes]) -> None:
    document = json.loads(files["model.json"])
    del document["golden"], document["files"]["golden.safetensors"]
    older = files | {"model.json": json.dumps(document).encode()}
    del older["golden.safetensors"]
    imported = client.post("/models", content=tar_of(older), headers=TAR)
    assert imported.status_code == 201
    assert imported.json()["golden"] is None
    assert client.put("/aliases/older", json={"model": imported.json()["id"]}).status_code == 200


def test_a_model_that_a_job_builds_on_stays(client: TestClient, make_model: Callable[..., str], make_dataset: Callable[..., str]) -> None:
    model_id = make_model()
    job = client.post("/jobs", json={"dataset": make_dataset(), "base_model": model_id}).json()["id"]
    check_problem(client.delete(f"/models/{model_id}"), 409, "model_in_use")
    client.post(f"/jobs/{job}/cancel")
    assert client.delete(f"/models/{model_id}").status_code == 200


def test_backbones_have_layers(client: TestClient, make_model: Callable[..., str]) -> None:
    seen = make_model(modality="image")
    found = {row.id: row for row in BackboneList.model_validate(client.get("/backbones").json()).data}
    assert {"seed_cnn", "resnet_tiny", seen} <= found.keys()
    assert (found[seen].kind, found[seen].architecture) == ("model", "resnet_tiny")
    assert [layer.name for layer in found["resnet_tiny"].layers] == [layer.name for layer in found[seen].layers]
