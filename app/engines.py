"""Name → engine, for everything that predicts. What a name stands for depends on who asks.

A name's model is looked up again each second. Where a moved alias is noticed, the new engine is loaded first and the old one answers
until it is there, so that no request after a move waits for a load. The engines themselves lie on a shelf, app/shelf.py.
"""

import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.metrics import Metrics
from app.shelf import Shelf, load
from models.engine import Engine
from models.errors import InputError, SynesthesiaError
from models.golden import GoldenReport
from worker.aliases import Located, locate
from worker.errors import ConflictError, GoneError, StateError
from worker.owners import EVERYTHING, View, current_view, seen_by
from worker.promotion import require_passed
from worker.settings import Settings

RESOLVED_SECONDS = 1.0  # how long another process's move of an alias may go unseen
LOOK_SECONDS = 0.4  # between two looks at the names in use: a move is seen, and a quick load done, within RESOLVED_SECONDS
GRACE_SECONDS = 5.0  # how long the old engine may answer while the new one loads
_PAUSE_SECONDS = 0.1  # between two looks of requests meanwhile
_IN_USE_SECONDS = 60.0  # a name that nobody used for so long is looked up by its next request
_RETRY_SECONDS = 10.0  # after a failure, the background leaves a name alone for so long; requests don't

log = structlog.get_logger(__name__)


class _Asked(NamedTuple):
    """A name, and in whose view it stands for something."""

    view: View
    name: str


@dataclass
class _Route:
    """What a name stood for when it was last looked up; times are of the monotonic clock."""

    model_id: str
    confirmed: float
    until: float
    """requests need not look before"""
    used: float


class Engines:
    """The engines of one process by name, safe in threads. Without `warm` nothing runs in the background."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Nothing is loaded yet, no thread runs."""
        self._warm = tuple(_Asked(EVERYTHING, name) for part in settings.warm_models.split(",") if (name := part.strip()))
        self._shelf = Shelf(settings.max_models_bytes, metrics)
        self._routes: dict[_Asked, _Route] = {}
        self._generation = 0
        self._lock = threading.Lock()
        self._retry_at: dict[_Asked, float] = {}
        self._wake = threading.Event()
        self._closing = False
        self._keeper: threading.Thread | None = None

    def __len__(self) -> int:
        """How many engines are held ready."""
        return len(self._shelf)

    @property
    def bytes(self) -> int:
        """Memory that they are taken for."""
        return self._shelf.bytes

    def peek(self, name: str, view: View | None = None) -> tuple[str, Engine] | None:
        """Return id and engine if the name was looked up a moment ago and the engine is held. Never waits: for the event loop.

        `view` is that in which the name is looked up, the current one unless it is told.
        """
        asked = _Asked(current_view() if view is None else view, name)
        route, now = self._routes.get(asked), time.monotonic()
        if route is None or now >= route.until:
            return None
        held = self._shelf.find(route.model_id)
        if held is None:
            return None
        route.used = now
        return route.model_id, held.engine

    def get(self, name: str) -> tuple[str, Engine]:
        """Return id and engine of the speech model that `name` stands for; blocks while it loads.

        Raises NotFoundError, GoneError, InputError for a model of pictures, DependencyError where its files can't be used.
        """
        return self.peek(name) or self._look_up(_Asked(current_view(), name))

    def examine(self, name: str) -> str:
        """Return the id of the model that an alias is to be moved to, once it is known to answer as when it was made.

        A speech model is held ready from then on, so that the move costs no request a load. Raises ConflictError (promotion_refused)
        where its golden clips are answered otherwise, NotFoundError, GoneError, DependencyError where its files can't be used.
        """
        model = locate(name)
        in_use = model.model_id in self._shelf
        held = self._shelf.get(model) if model.modality == "audio" else load(model)
        try:
            require_passed(model.model_id, held.golden)
        except ConflictError:
            if not in_use:  # else readiness would tell of a model that nobody asks
                self._shelf.drop(model.model_id)
            raise
        return model.model_id

    def reports(self) -> dict[str, GoldenReport]:
        """Return model id → what replaying its golden clips found, for the engines that are held."""
        return self._shelf.reports()

    def drop(self, model_id: str) -> None:
        """Let go of the engine of a model that was deleted."""
        self._shelf.drop(model_id)

    def forget(self) -> None:
        """Look names up again: an alias was moved, or a model deleted."""
        with self._lock:
            self._generation += 1
            self._routes = {}

    def warm(self) -> None:
        """Load the engines of the warm list in the background, and keep the names in use looked up from then on."""
        self._closing = False
        self._keeper = threading.Thread(target=self._keep, name="engines", daemon=True)
        self._keeper.start()

    def close(self) -> None:
        """End the background; a load that has begun ends first."""
        self._closing = True
        self._wake.set()
        if self._keeper is not None:
            self._keeper.join(timeout=10)

    def _look_up(self, asked: _Asked) -> tuple[str, Engine]:
        generation, before = self._generation, self._routes.get(asked)
        model = _speech_model(asked.name)
        if before is not None and self._may_go_on(before, model):
            held = self._shelf.find(before.model_id)
            if held is not None:
                self._wake.set()
                before.until = time.monotonic() + _PAUSE_SECONDS
                return before.model_id, held.engine
        held = self._shelf.get(model)
        self._remember(asked, model.model_id, generation, used=time.monotonic())
        return model.model_id, held.engine

    def _may_go_on(self, before: _Route, model: Located) -> bool:
        """Whether the old engine may answer while the background loads the new one: briefly, and not for a model that is deleted."""
        if self._keeper is None or not self._keeper.is_alive():
            return False
        if model.model_id == before.model_id or model.model_id in self._shelf or time.monotonic() > before.confirmed + GRACE_SECONDS:
            return False
        try:
            locate(before.model_id)
        except StateError:
            return False
        return True

    def _remember(self, asked: _Asked, model_id: str, generation: int, *, used: float) -> None:
        now = time.monotonic()
        with self._lock:
            if generation == self._generation:  # else a move came between, and what was read may be old
                self._routes[asked] = _Route(model_id, now, now + RESOLVED_SECONDS, used)

    def _keep(self) -> None:
        for asked in self._warm:
            self._refresh(asked)
        while not self._closing:
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            for asked in self._in_use():
                self._refresh(asked)

    def _in_use(self) -> list[_Asked]:
        """Return the names to be looked up before a request has to, and drop those that nobody uses any more."""
        now = time.monotonic()
        with self._lock:
            self._routes = {
                asked: route for asked, route in self._routes.items() if now - route.used < _IN_USE_SECONDS or asked in self._warm
            }
            held = [asked for asked, route in self._routes.items() if route.model_id in self._shelf]
        return [asked for asked in dict.fromkeys((*self._warm, *held)) if self._retry_at.get(asked, 0.0) <= now]

    def _refresh(self, asked: _Asked) -> None:
        """Look a name up; where it stands for another model than before, load that one first."""
        if self._closing:
            return
        generation, before = self._generation, self._routes.get(asked)
        try:
            with seen_by(asked.view):
                model = _speech_model(asked.name)
            if before is None or before.model_id != model.model_id:
                self._shelf.get(model)
            self._retry_at.pop(asked, None)
            self._remember(asked, model.model_id, generation, used=before.used if before else time.monotonic())
        except (StateError, InputError) as error:  # nothing to keep ready: no default model yet, or an alias of pictures
            self._routes.pop(asked, None)
            if before is not None and isinstance(error, GoneError):
                self._shelf.drop(before.model_id)
        except (SynesthesiaError, SQLAlchemyError) as error:
            self._retry_at[asked] = time.monotonic() + _RETRY_SECONDS
            log.warning("engine_not_refreshed", name=asked.name, error=str(error)[:200])


def _speech_model(name: str) -> Located:
    model = locate(name)
    if model.modality != "audio":
        raise InputError(
            f"model {model.model_id} works on images; a prediction needs a speech model", code="modality_mismatch", param="query.model",
            hint="fine-tune it on sounds: POST /jobs with base_model",
        )  # fmt: skip
    return model
