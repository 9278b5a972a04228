"""`synesthesia doctor`: what this machine has for the service, part by part, each with what to do where something is amiss."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

import typer
from rich.text import Text

from app.client import Client, ClientError, RefusedError
from app.commands.options import DataDir, JsonFlag, Target
from app.commands.output import REFUSED_EXIT, emit, plain
from app.environment import export_options
from worker.settings import Settings, get_settings

_TORCH = (
    "import json, sys, torch; n = torch.cuda.device_count() if torch.cuda.is_available() else 0; "
    "sys.stdout.write(json.dumps({'version': torch.__version__, 'built_for': torch.version.cuda, "
    "'gpus': [torch.cuda.get_device_name(i) for i in range(n)]}))"
)
_TORCH_SECONDS = 120.0  # a first import from a cold disk
_EXTRAS = {"postgres": "psycopg", "s3": "s3fs", "search": "optuna", "demo": "espeakng_loader"}
_STYLES = {"ok": "green", "warning": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "warning", "missing"]  # missing: the service can't do its work
    detail: str
    hint: str = ""


def doctor(context: typer.Context, data_dir: DataDir = None, as_json: JsonFlag = False) -> None:
    """Say what this machine has, what it lacks, and what to do about that.

    Exits 1 where something is missing that the service can't do without; what could be better does not count.
    """
    export_options(data_dir=data_dir)
    findings = list(examined(get_settings(), context.ensure_object(Target)))
    emit({"object": "diagnosis", "checks": [asdict(found) for found in findings]}, as_json=as_json, table=_described(findings))
    if any(found.status == "missing" for found in findings):
        raise typer.Exit(REFUSED_EXIT)


def examined(settings: Settings, target: Target) -> Iterator[Finding]:
    """Yield what each look finds, whatever the others find."""
    looks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("program", _program),
        ("torch", _torch),
        ("onnxruntime", _onnxruntime),
        ("broker", lambda: _broker(settings)),
        ("data directory", lambda: _data_directory(settings)),
        ("disk", lambda: _disk(settings)),
        ("database", lambda: _database(settings)),
        ("bundled weights", _weights),
        ("service", lambda: _service(target)),
        ("extras", _extras),
        ("microphone", _microphone),
    )
    for name, look in looks:
        try:
            yield look()
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            yield Finding(name, "missing", f"{type(error).__name__}: {error}"[:300])


def _program() -> Finding:
    try:
        version = metadata.version("synesthesia")
    except metadata.PackageNotFoundError:
        version = "a checkout that was not installed"
    detail = (
        f"synesthesia {version}, Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    )
    return Finding("program", "ok", detail)


def _torch() -> Finding:
    """Look in a process of its own: torch takes seconds and memory that nothing here needs."""
    outcome = subprocess.run([sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=_TORCH_SECONDS, check=False)
    if outcome.returncode:
        reason = (outcome.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Finding(
            "torch", "missing", f"can't be imported: {reason}", "`make install` installs what belongs together; nothing trains without it"
        )
    found = json.loads(outcome.stdout)
    if found["gpus"]:
        return Finding("torch", "ok", f"{found['version']}, GPU: {', '.join(found['gpus'])}")
    if shutil.which("nvidia-smi"):
        built = f"built for CUDA {found['built_for']}" if found["built_for"] else "built without CUDA"
        hint = "install a torch that fits the driver (docs/guides/gpu-box.md)"
        return Finding("torch", "warning", f"{found['version']}, {built}, and no GPU although there is a driver", hint)
    return Finding("torch", "ok", f"{found['version']}, no GPU: trains on the processor")


def _onnxruntime() -> Finding:
    try:
        return Finding("onnxruntime", "ok", metadata.version("onnxruntime"))
    except metadata.PackageNotFoundError:
        return Finding("onnxruntime", "missing", "not installed", "`make install`; nothing predicts without it")


def _broker(settings: Settings) -> Finding:
    if settings.redis_url:
        from worker.queue import ping  # noqa: PLC0415 - Celery's imports, for those who have a broker of their own

        if ping():
            return Finding("broker", "ok", "the one at REDIS_URL answers")
        return Finding("broker", "warning", "the one at REDIS_URL does not answer", "jobs are taken, and run once it does")
    from worker.embedded import server_binary  # noqa: PLC0415

    return Finding("broker", "ok", f"`serve` starts {server_binary()}")


def _data_directory(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    nearest = _nearest(folder)
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("data directory", "missing", f"{nearest} can't be written", "choose another with --data-dir")
    return Finding("data directory", "ok", f"{folder}" + ("" if folder.exists() else ", which `serve` makes"))


def _disk(settings: Settings) -> Finding:
    usage = shutil.disk_usage(_nearest(settings.data_dir.absolute()))
    detail = f"{usage.free / 2**30:.1f} of {usage.total / 2**30:.1f} GiB are free"
    if usage.free < usage.total * settings.min_free_fraction:
        least = f"below {settings.min_free_fraction:.0%} uploads and jobs are refused"
        return Finding("disk", "missing", detail, f"{least}: make room, or lower SYNESTHESIA_MIN_FREE_FRACTION")
    return Finding("disk", "ok", detail)


def _database(settings: Settings) -> Finding:
    """Look without making anything: a database that is not there yet is none of a doctor's making."""
    if settings.database_url is None and not (settings.data_dir / "synesthesia.db").exists():
        return Finding("database", "ok", "SQLite, made at the first start")
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - a start without a database needs none of it

    from worker.database import get_engine  # noqa: PLC0415
    from worker.migrate import current_revision, newest_revision  # noqa: PLC0415

    try:
        with get_engine().connect():
            found = current_revision()
    except SQLAlchemyError as error:
        return Finding("database", "missing", str(error.__cause__ or error)[:200], "start it, or set DATABASE_URL right")
    if found != newest_revision():
        return Finding(
            "database", "warning", f"at revision {found}, this program knows {newest_revision()}", "the next start brings it there"
        )
    return Finding("database", "ok", f"{get_engine().dialect.name} at revision {found}")


def _weights() -> Finding:
    from models.bundled import WEIGHTS, bundled_backbone  # noqa: PLC0415 - reads a file

    hint = "install the package anew: the weights are a part of it"
    if not WEIGHTS.exists():
        return Finding("bundled weights", "missing", "not there", hint)
    if hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() != bundled_backbone().sha256:
        return Finding("bundled weights", "missing", "damaged: not what their description says", hint)
    return Finding("bundled weights", "ok", f"{WEIGHTS.stat().st_size / 2**20:.1f} MiB, whole")


def _service(target: Target) -> Finding:
    try:
        with Client(target.url, target.api_key, busy_seconds=0.0) as client:
            state = client.get("/readyz")
            version = client.get("/version")["version"]
    except RefusedError as error:
        return Finding("service", "warning", f"{target.url} answers, but: {error}", "its log says more")
    except ClientError as error:
        return Finding("service", "warning", str(error), "`synesthesia serve` starts one; SYNESTHESIA_URL or --url names another")
    lame = [f"{name}: {check['detail']}" for name, check in state["checks"].items() if check["status"] != "ok"]
    return Finding("service", "warning" if lame else "ok", f"{target.url}, version {version}, {'; '.join(lame) or 'ready'}")


def _extras() -> Finding:
    there = [name for name, module in _EXTRAS.items() if util.find_spec(module)]
    lacking = [name for name in _EXTRAS if name not in there]
    hint = f"pip install 'synesthesia[{','.join(lacking)}]' where they are wanted" if lacking else ""
    return Finding("extras", "ok", ", ".join(there) or "none", hint)


def _microphone() -> Finding:
    found = [name for name in ("arecord", "ffmpeg") if shutil.which(name)]
    if found:
        return Finding("microphone", "ok", f"`record` uses {found[0]}")
    return Finding(
        "microphone", "warning", "nothing here records", "install ALSA's tools or FFmpeg for `record`; the page at / records too"
    )


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _described(findings: list[Finding]) -> Text:
    lines = []
    for found in findings:
        lines.append(Text.assemble((f"{found.status:8}", _STYLES[found.status]), (f"{found.name:16}", "bold"), plain(found.detail)))
        if found.hint:
            lines.append(Text.assemble(" " * 24, plain(found.hint)))
    return Text("\n").join(lines)
