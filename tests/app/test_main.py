"""What importing and running the application brings into the process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from models.errors import ConfigError
from tests.conftest import tone, wav_bytes
from worker.settings import Settings

HEAVY = ("torch", "torchaudio", "torchvision", "timm", "sklearn", "typer")
PREDICT = """
import json, sys
from pathlib import Path
from starlette.testclient import TestClient
from app.main import create_app

def heavy():
    return sorted({name.partition(".")[0] for name in sys.modules} & set(json.loads(sys.argv[2])))

with TestClient(create_app()) as client:
    started = heavy()
    answer = client.post("/predict", content=Path(sys.argv[1]).read_bytes(), headers={"Content-Type": "audio/wav"})
    client.get("/backbones")
    client.get("/metrics")
print(json.dumps([answer.status_code, started, heavy()]))
"""


def run_python(*arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", *arguments], check=True, capture_output=True, text=True, env=dict(os.environ)).stdout


def test_the_serving_process_never_imports_torch(settings: Settings, make_model: Callable[..., str], tmp_path: Path) -> None:
    make_model(alias="default")
    sound = tmp_path / "a.wav"
    sound.write_bytes(wav_bytes(tone(440, 0.5)))
    last = run_python(PREDICT, str(sound), json.dumps(HEAVY)).splitlines()[-1]
    assert json.loads(last) == [200, [], []]


def test_importing_the_application_reads_no_settings_and_writes_nothing(tmp_path: Path) -> None:
    script = "import app.main, os; from worker.settings import get_settings as s; print(s.cache_info().currsize, os.listdir('.'))"
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert answer.stdout.strip() == "0 []"


def test_serve_s_own_process_stays_small() -> None:
    script = (
        "import app.serve, sys; print([name for name in ('torch', 'celery', 'fastapi', 'onnxruntime', 'numpy') if name in sys.modules])"
    )
    assert run_python(script).strip() in ("[]", "['fastapi']")


def test_strangers_are_kept_out_before_anything_is_made() -> None:
    with pytest.raises(ConfigError):
        create_app(Settings(host="0.0.0.0"))


def test_the_keeper_runs_while_the_application_does(settings: Settings) -> None:
    import threading

    def keepers() -> int:
        return sum(thread.name == "keeper" for thread in threading.enumerate())

    before = keepers()
    with TestClient(create_app(settings)):
        assert keepers() == before + 1
    assert keepers() == before


def test_two_applications_in_one_process_are_apart(settings: Settings) -> None:
    first, second = TestClient(create_app(settings)), TestClient(create_app(settings))
    first.get("/healthz")
    assert 'route="/healthz"' in first.get("/metrics").text
    assert 'route="/healthz"' not in second.get("/metrics").text
