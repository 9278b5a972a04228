#!/usr/bin/env bash
# Make the virtual environment $1 with Python $2: uv from the package index, then everything as locked.
set -euo pipefail
venv=$1
python=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed; $("$python" --version) is what '$python' starts. Try: make PYTHON=python3.11" >&2
  exit 1
}
# uv lives in an environment of its own, so that nothing is installed into the system's Python.
if [ ! -x .uv/bin/uv ]; then
  echo "Installing uv …"
  "$python" -m venv .uv
  .uv/bin/pip install --quiet --disable-pip-version-check uv
fi
echo "Installing into $venv (torch and its libraries are some gigabytes the first time) …"
[ -x "$venv/bin/python" ] || .uv/bin/uv venv --quiet --python "$python" "$venv"
.uv/bin/uv pip install --python "$venv" --requirements requirements.lock
.uv/bin/uv pip install --python "$venv" --no-deps --editable .
# Where the environment forbids Python to keep what it has compiled (PYTHONDONTWRITEBYTECODE, as many images do), every process would compile
# it again: 4.9 s instead of 2.1 for torch alone. So what is started all the time is compiled here, and nothing else: all of it is 70 s of work.
echo "Compiling …"
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -c "import app.main, app.serve, app.demo.command
import worker.celery_app, worker.training_run, worker.ingester, worker.generator, worker.ranking"
