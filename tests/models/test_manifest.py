"""model.json and the hashes in it: what is read, what is refused, and that the file is named."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import FeatureConfig, ModelManifest, NetworkConfig, Normalization
from models.errors import ArtifactError
from models.manifest import CARD, EVALUATION, GRAPH, HASHED, MANIFEST, WEIGHTS, read_evaluation, read_manifest, sha256_of, verify_files

NETWORK = NetworkConfig(
    modality="audio",
    architecture="resnet_tiny",
    labels=("no", "yes"),
    features=FeatureConfig(clip_seconds=1.0, image_size=28),
    normalization=Normalization(mean=(0.0,) * 40, std=(1.0,) * 40),
)


def write_artifact(folder: Path) -> ModelManifest:
    for name in HASHED:
        (folder / name).write_bytes(f"the content of {name}".encode())
    manifest = ModelManifest(network=NETWORK, files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in HASHED})
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return manifest


def test_sha256_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_was_written_is_read_and_verified(tmp_path: Path) -> None:
    manifest = write_artifact(tmp_path)
    assert read_manifest(tmp_path) == manifest
    verify_files(tmp_path, manifest)


@pytest.mark.parametrize("name", HASHED)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    manifest = write_artifact(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=name) as caught:
        verify_files(tmp_path, manifest)
    assert caught.value.param == name


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from(HASHED), position=st.integers(0, 20), bit=st.integers(0, 7))
def test_any_flipped_bit_is_seen(name: str, position: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("artifact")
    manifest = write_artifact(folder)
    content = bytearray((folder / name).read_bytes())
    content[position] ^= 1 << bit
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        verify_files(folder, manifest)
    assert caught.value.param == name


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH])
def test_weights_and_graph_must_be_listed(name: str, tmp_path: Path) -> None:
    manifest = write_artifact(tmp_path)
    (tmp_path / name).unlink()
    listed = {key: value for key, value in manifest.files.items() if key != name}
    with pytest.raises(ArtifactError) as caught:
        verify_files(tmp_path, manifest.model_copy(update={"files": listed}))
    assert caught.value.param == name


@pytest.mark.parametrize("name", [CARD, EVALUATION])
def test_the_other_files_may_be_absent_but_not_unlisted(name: str, tmp_path: Path) -> None:
    manifest = write_artifact(tmp_path)
    manifest = manifest.model_copy(update={"files": {key: value for key, value in manifest.files.items() if key != name}})
    with pytest.raises(ArtifactError) as caught:
        verify_files(tmp_path, manifest)
    assert caught.value.param == name
    (tmp_path / name).unlink()
    verify_files(tmp_path, manifest)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "model.json", "notes.txt"])
def test_a_listed_name_never_becomes_a_foreign_path(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"abc")
    manifest = write_artifact(folder)
    listed = manifest.files | {name: hashlib.sha256(b"abc").hexdigest()}
    with pytest.raises(ArtifactError) as caught:
        verify_files(folder, manifest.model_copy(update={"files": listed}))
    assert caught.value.param == MANIFEST


def _document(**changes: Any) -> bytes:
    return json.dumps(json.loads(ModelManifest(network=NETWORK).model_dump_json()) | changes).encode()


DAMAGED = {
    "empty": b"",
    "cut": b"{",
    "null": b"null",
    "nested": b"[" * 100_000,
    "binary": b"\xff\xfe",
    "other format": _document(format=2),
    "unknown field": _document(surprise=1),
    "wrong type": _document(metrics={"a": "b"}),
    "too large": b" " * (16 * 2**20 + 1),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_manifest_is_an_answer_and_no_traceback(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match=MANIFEST) as caught:
        read_manifest(tmp_path)
    assert caught.value.param == MANIFEST
    assert str(tmp_path) not in caught.value.message


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_manifest(tmp_path / "nowhere")
    assert caught.value.param == MANIFEST


def test_evaluation_is_read_where_there_is_one(tmp_path: Path) -> None:
    assert read_evaluation(tmp_path) == {}
    (tmp_path / EVALUATION).write_text('{"splits": {"test": {"n": 3}}}')
    assert read_evaluation(tmp_path) == {"splits": {"test": {"n": 3}}}


@pytest.mark.parametrize("content", [b"", b"[1]", b"3", b'{"splits": 1}', b'{"a": NaN}', b'{"a": Infinity}', b"[" * 100_000, b"\xff"])
def test_a_damaged_evaluation_is_an_answer_and_no_traceback(content: bytes, tmp_path: Path) -> None:
    (tmp_path / EVALUATION).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_evaluation(tmp_path)
    assert caught.value.param == EVALUATION
