"""The guides: what stands in a block marked `bash` is run as it stands, page by page, against a service."""

import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import picture_archive, sound_archive, tone, wav_bytes
from tests.service import Service
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
QUICK = ("moving", "limits")
TRAINING = ("first-model", "curl", "own-pictures", "which-layers", "few-clips", "unknown-words")
ELSEWHERE = ("README", "gpu-box", "kubernetes")  # without a command that this machine can run


def commands(page: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", (GUIDES / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("guides")).start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What a reader has: folders of recordings and pictures, and exports of other tools."""
    with zipfile.ZipFile(io.BytesIO(sound_archive())) as archive:
        names = [name for name in archive.namelist() if name.endswith(".wav")]
        for name in names:
            word = name.rpartition("/")[2].partition("-")[0]
            _write(tmp_path / "recordings" / word / name.replace("/", "-"), archive.read(name))
    with zipfile.ZipFile(io.BytesIO(picture_archive())) as archive:
        archive.extractall(tmp_path / "pictures")
    _write(tmp_path / "autotrain" / "train.csv", b"audio,intent\nclips/0.wav,low\nclips/1.wav,low\nclips/2.wav,high\nclips/3.wav,high\n")
    for number in range(4):
        sound = wav_bytes(tone(300 + 200 * number, 0.4, seed=number))
        word = "low" if number < 2 else "high"
        _write(tmp_path / "autotrain" / "clips" / f"{number}.wav", sound)
        _write(tmp_path / "more-recordings" / f"w{number % 3}" / f"{number}.wav", sound)
        _write(tmp_path / "teachable" / word / f"sample-{number}.wav", sound)
        _write(tmp_path / "teachable" / word / "samples.json", b"[]")
        _write(tmp_path / "edge" / f"{word}.{number}a1.wav", sound)
    return tmp_path


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run(page: str, service: Service, home: Path) -> str:
    """Run a page's commands from its first to its last; return what they printed."""
    script = "\n".join(commands(page))
    assert script, f"{page}.md has no command"
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": paths, "SYNESTHESIA_URL": service.url}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{service.log()[-2000:]}"
    return done.stdout


def test_every_guide_is_run_or_can_not_be() -> None:
    assert {path.stem for path in GUIDES.glob("*.md")} == {*QUICK, *TRAINING, *ELSEWHERE}
    assert not [page for page in ELSEWHERE if commands(page)]


@pytest.mark.parametrize("page", QUICK)
def test_a_guide_that_trains_nothing(page: str, service: Service, home: Path) -> None:
    run(page, service, home)


def test_from_recordings_to_a_served_model(service: Service, home: Path) -> None:
    printed = run("first-model", service, home)
    assert "recordings/w0/s0-w0-0.wav" in printed
    assert (home / "words.onnx").stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("page", TRAINING[1:])
def test_a_guide_that_trains(page: str, service: Service, home: Path) -> None:
    run(page, service, home)


def test_the_manifests_set_what_the_service_reads() -> None:
    names = {f"SYNESTHESIA_{field.upper()}" for field in Settings.model_fields} | {"DATABASE_URL", "REDIS_URL", "BLOB_URL"}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] != "Deployment":
                continue
            pod = document["spec"]["template"]["spec"]
            [container] = pod["containers"]
            assert {variable["name"] for variable in container["env"]} <= names
            assert pod["terminationGracePeriodSeconds"] == 60, "as compose: a trainer needs it for its checkpoint"
            assert container["args"] in [service.get("command") for service in compose["services"].values()]
            assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
            assert document["spec"]["selector"]["matchLabels"] == document["spec"]["template"]["metadata"]["labels"]


def test_the_kubernetes_guide_names_every_manifest() -> None:
    text = (GUIDES / "kubernetes.md").read_text()
    assert set(re.findall(r"`([\w-]+\.yaml)`", text)) == {path.name for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml")}
