"""The engines that a process holds ready, within a bound on their memory: the least recently used goes first."""

import collections
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from app.metrics import Metrics
from models.engine import Engine
from models.errors import ArtifactError
from models.features import clip_samples
from models.golden import TOLERANCE, GoldenReport, replay_stored
from models.manifest import GRAPH
from worker.aliases import Located
from worker.errors import DependencyError
from worker.model_files import fetch_located
from worker.storage import LOST_CODES

log = structlog.get_logger(__name__)
# Resident memory that one engine adds, by what is known of it at load. Measured with ONNX Runtime 1.32 on five networks of 1.7 to 31 MiB
# (bc_resnet, resnet_tiny at 1 and 4 s, MobileNetV3 small, ResNet-18): loading takes 2.7 to 4.6 times the graph; after 16 clips at once in
# two threads it is 29 to 96 MiB, and this formula is between 0.55 and 1.5 times that.
_BASE_BYTES = 4 * 2**20
_GRAPH_FACTOR = 3
_BYTES_A_SAMPLE = 1280  # of the clip: activations of a batch of 16, which ONNX Runtime keeps for the next one


@dataclass(frozen=True)
class Held:
    """One engine on the shelf."""

    engine: Engine
    size: int
    """bytes of memory that it is taken for"""
    golden: GoldenReport | None
    """what replaying its golden clips found; None where it has none"""


class Shelf:
    """Model id → engine. Safe in threads; one load of a model at a time, others go on meanwhile."""

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        """Nothing is loaded yet. One engine is always kept, however large: else each request for it would load it anew."""
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._held: collections.OrderedDict[str, Held] = collections.OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def __len__(self) -> int:
        """How many engines are held."""
        return len(self._held)

    def __contains__(self, model_id: str) -> bool:
        """Whether an engine is held; does not count as a use."""
        return model_id in self._held

    @property
    def bytes(self) -> int:
        """Memory that the engines are taken for."""
        return self._bytes

    def find(self, model_id: str) -> Held | None:
        """Return an engine that is held, and count that as a use. Never waits for a load."""
        with self._lock:
            if model_id in self._held:
                self._held.move_to_end(model_id)
            return self._held.get(model_id)

    def get(self, model: Located) -> Held:
        """Return an engine, loaded if need be. Raises DependencyError where its files can't be used."""
        held = self.find(model.model_id)
        if held is not None:
            return held
        with self._loads(model.model_id):
            held = self.find(model.model_id)
            if held is None:
                held = self._load(model)
                self._put(model.model_id, held)
        return held

    def drop(self, model_id: str) -> None:
        """Let go of an engine; predictions that have begun end on it."""
        with self._lock:
            held = self._held.pop(model_id, None)
            self._bytes -= held.size if held else 0
        self._tell()

    def reports(self) -> dict[str, GoldenReport]:
        """Return model id → what its replay found, for engines that are held and have golden clips."""
        with self._lock:
            return {model_id: held.golden for model_id, held in self._held.items() if held.golden is not None}

    def _put(self, model_id: str, held: Held) -> None:
        dropped = []  # freed after the lock: that takes milliseconds, and `find` must not wait
        with self._lock:
            self._held[model_id] = held
            self._bytes += held.size
            while self._bytes > self._max_bytes and len(self._held) > 1:
                dropped.append(self._held.popitem(last=False))
                self._bytes -= dropped[-1][1].size
        for old, _ in dropped:
            log.info("engine_dropped", model=old, bytes=self._bytes)
        self._metrics.count_evictions(len(dropped))
        self._tell()

    def _tell(self) -> None:
        self._metrics.observe_engines(self._bytes, [report.max_difference for report in self.reports().values()], TOLERANCE)

    def _load(self, model: Located) -> Held:
        began = time.perf_counter()
        try:
            held = load(model)
        except DependencyError as error:
            self._metrics.count_load(error.code)
            raise
        self._metrics.count_load("loaded")
        log.info("engine_loaded", model=model.model_id, seconds=round(time.perf_counter() - began, 3), bytes=held.size)
        if held.golden is not None and not held.golden.passed:
            # It goes on answering: a service that stops at an upgrade helps nobody. But nobody may miss it.
            log.error("golden_difference", model=model.model_id, difference=held.golden.max_difference, reason=held.golden.sentence())
        return held

    @contextlib.contextmanager
    def _loads(self, model_id: str) -> Iterator[None]:
        with self._lock:
            lock = self._loading.setdefault(model_id, threading.Lock())
        with lock:
            yield
        with self._lock:
            self._loading.pop(model_id, None)


def load(model: Located) -> Held:
    """Fetch and verify a model's files, replay its golden clips and return its engine. Raises DependencyError where they can't be used."""
    try:
        folder = fetch_located(model)
        engine = Engine.load(folder, threads=1)
        golden = replay_stored(engine, folder)
        graph = (folder / GRAPH).stat().st_size
    except (ArtifactError, OSError) as error:
        raise _unavailable(model.model_id) from error
    except DependencyError as error:
        # A storage that does not answer is another matter: the model may be well.
        raise _unavailable(model.model_id) if error.code in LOST_CODES else error from error
    samples = clip_samples(engine.manifest.network.features) if engine.manifest.network.modality == "audio" else 0
    return Held(engine, _BASE_BYTES + _GRAPH_FACTOR * graph + _BYTES_A_SAMPLE * samples, golden)


def _unavailable(model_id: str) -> DependencyError:
    return DependencyError(
        f"the files of model {model_id} are missing or damaged", code="model_unavailable", retry_after=60,
        hint="bring them back from a backup of the storage, or use another model: PUT /aliases/{alias} moves a name to it",
    )  # fmt: skip
