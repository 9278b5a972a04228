"""Clients that public generators make of openapi.json: they understand all of it, and one of them does the whole job."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.client import Client, Json
from app.openapi import CONTRACT
from tests.conftest import sound_archive, tone, wav_bytes
from tests.service import Service

OPERATIONS = [
    (operation["tags"][0], operation["operationId"])
    for operations in json.loads(CONTRACT.read_text(encoding="utf-8"))["paths"].values()
    for operation in operations.values()
    if "operationId" in operation
]


def run(*command: str, folder: Path) -> str:
    """Run a generator; return what it said."""
    outcome = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a package that openapi-python-client made, and what it had to say."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "config.yml").write_text("package_name_override: generated_client\npost_hooks: []\n")
    where = ("--path", str(CONTRACT), "--output-path", str(folder / "generated_client"), "--config", str(folder / "config.yml"))
    return folder, run("openapi_python_client", "generate", "--meta", "none", *where, folder=folder)


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module of pydantic models that datamodel-code-generator made."""
    target = tmp_path_factory.mktemp("schemas") / "generated_schemas.py"
    kind = ("--input-file-type", "openapi", "--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin")
    run("datamodel_code_generator", "--input", str(CONTRACT), "--output", str(target), *kind, folder=target.parent)
    spec = importlib.util.spec_from_file_location("generated_schemas", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generated_schemas"] = module
    spec.loader.exec_module(module)
    return module


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def test_every_operation_and_every_schema_is_understood(generated: tuple[Path, str]) -> None:
    folder, said = generated
    assert "Unable to process" not in said
    assert "Could not find reference" not in said
    # It knows forms, JSON and plain bytes; the names of single media types are left out, and the same can be sent as a form.
    complaints = [line for line in said.splitlines() if line.startswith(("Cannot parse", "Unsupported"))]
    assert [line for line in complaints if "nsupported content" not in line] == []
    for tag, operation in OPERATIONS:
        assert (folder / "generated_client" / "api" / tag / f"{snake(operation)}.py").exists(), operation


def test_every_schema_becomes_a_model(schemas: ModuleType) -> None:
    names = json.loads(CONTRACT.read_text(encoding="utf-8"))["components"]["schemas"]
    assert [name for name in names if not hasattr(schemas, name)] == []


@pytest.mark.slow
def test_upload_job_and_prediction_with_a_generated_client(
    generated: tuple[Path, str], service: Service, schemas: ModuleType, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(generated[0]))
    from generated_client import Client as Generated  # type: ignore[import-not-found]  # made by the fixture
    from generated_client.api.datasets import create_dataset, get_dataset  # type: ignore[import-not-found]
    from generated_client.api.jobs import create_job, get_job  # type: ignore[import-not-found]
    from generated_client.api.predict import predict  # type: ignore[import-not-found]
    from generated_client.models import (  # type: ignore[import-not-found]
        CreateDatasetFilesBody,
        FeatureConfig,
        Hyperparameters,
        JobSpec,
        PredictFilesBody,
        TransferConfig,
        TransferConfigMode,
    )
    from generated_client.types import File  # type: ignore[import-not-found]

    with Generated(service.url, raise_on_unexpected_status=True) as theirs:
        archive = File(payload=sound_archive(), file_name="tones.zip", mime_type="application/zip")
        dataset = create_dataset.sync(client=theirs, body=CreateDatasetFilesBody(file=archive, name="generated"))
        dataset = poll(lambda: get_dataset.sync(dataset.id, client=theirs), "processing")
        assert dataset.status == "ready"
        spec = JobSpec(
            dataset=dataset.id,
            transfer=TransferConfig(mode=TransferConfigMode.NONE),
            hyperparameters=Hyperparameters(epochs=4, batch_size=16),
            features=FeatureConfig(n_mels=32, hop_ms=20, clip_seconds=0.5, image_size=28),
        )
        job = create_job.sync(client=theirs, body=spec)
        job = poll(lambda: get_job.sync(job.id, client=theirs), "queued", "running")
        assert job.status == "succeeded"
        sound = File(payload=wav_bytes(tone(440)), file_name="a.wav", mime_type="audio/wav")
        heard = predict.sync(client=theirs, body=PredictFilesBody(file=sound), model=job.model)
        assert heard.model == job.model
        assert heard.label in dataset.labels or heard.rejected
    answers: dict[str, Json] = {
        "Dataset": client.get(f"/datasets/{dataset.id}"),
        "Job": client.get(f"/jobs/{job.id}"),
        "JobList": client.get("/jobs"),
        "EventList": client.get(f"/jobs/{job.id}/events"),
        "Model": client.get(f"/models/{job.model}"),
        "Evaluation": client.get(f"/models/{job.model}/evaluation"),
        "Readiness": client.get("/readyz"),
    }
    for name, answer in answers.items():
        getattr(schemas, name).model_validate(answer)


def poll(look: Any, *waiting: str) -> Any:
    """Return what is there once its status is another one."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        found = look()
        if found.status not in waiting:
            return found
        time.sleep(0.3)
    raise AssertionError(f"still {found.status}")
