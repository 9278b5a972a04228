"""A service of the demo's own: started on a free port, gone when the block ends, however it ends."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from app.environment import environment_without_settings
from models.errors import UnavailableError
from worker.processes import die_with_parent

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_POLL_SECONDS = 0.05
_LOG_LINES = 20


@contextlib.contextmanager
def running_service(data_dir: Path) -> Iterator[str]:
    """Give the URL of a service on `data_dir`. Its messages go to serve.log there. Raises UnavailableError when it does not start."""
    log = data_dir / "serve.log"
    command = [sys.executable, "-m", "app.cli", "serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(data_dir)]
    with log.open("ab") as sink:
        process = subprocess.Popen(
            command,
            env=environment_without_settings(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the service
            preexec_fn=functools.partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - the demo has one thread here
        )
    try:
        yield _wait_for_url(process, data_dir, log)
    finally:
        _end(process)


def _wait_for_url(process: subprocess.Popen[bytes], data_dir: Path, log: Path) -> str:
    from app.serve import Serving  # noqa: PLC0415 - the other commands start faster without the service's imports

    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        serving = Serving.read(data_dir)
        if serving is not None and serving.pid == process.pid:
            return serving.url
        time.sleep(_POLL_SECONDS)
    words = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    raise UnavailableError(f"the service did not start:\n{words}", hint=f"all its messages are in {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)  # its children die with it
        process.wait()
