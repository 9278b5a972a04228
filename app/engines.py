"""The engines held ready: loaded when first asked for, the least recently used dropped first."""

import collections
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from models.engine import Engine
from models.errors import ArtifactError
from worker.errors import DependencyError

MAX_ENGINES = 8  # held ready at once; the least recently used goes first


class Engines:
    """The engines in use, least recently used first. Safe in threads; one load of a model at a time, others go on."""

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._held: collections.OrderedDict[str, Engine] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def __len__(self) -> int:
        """How many engines are held."""
        return len(self._held)

    def get(self, model_id: str, folder: Path) -> Engine:
        """Return the engine of a model, loaded if need be. Raises DependencyError where its files can't be used."""
        engine = self._find(model_id)
        if engine is not None:
            return engine
        with self._loads(model_id):
            engine = self._find(model_id) or _load(model_id, folder)
            with self._lock:
                self._held[model_id] = engine
                while len(self._held) > MAX_ENGINES:
                    self._held.popitem(last=False)
        return engine

    def _find(self, model_id: str) -> Engine | None:
        with self._lock:
            if model_id in self._held:
                self._held.move_to_end(model_id)
            return self._held.get(model_id)

    @contextlib.contextmanager
    def _loads(self, model_id: str) -> Iterator[None]:
        with self._lock:
            lock = self._loading.setdefault(model_id, threading.Lock())
        with lock:
            yield
        with self._lock:
            self._loading.pop(model_id, None)


def _load(model_id: str, folder: Path) -> Engine:
    try:
        return Engine.load(folder, threads=1)
    except (ArtifactError, OSError) as error:
        raise unavailable(model_id) from error


def unavailable(model_id: str) -> DependencyError:
    """Return the problem of a model whose files can't be used."""
    return DependencyError(
        f"the files of model {model_id} are missing or damaged", code="model_unavailable", retry_after=60,
        hint="bring them back from a backup of the storage, or use another model: PUT /aliases/{alias} moves a name to it",
    )  # fmt: skip
