"""What `GET /metrics` shows, in Prometheus' text format. Each process counts for itself, as each is scraped for itself."""

import functools
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.host_metrics import HostMetrics
from worker.host_state import HostState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})  # others are counted as one: a client may invent any
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
JOB_STATES = ("queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled")


class Metrics:
    """The counters of one application; their registry is its own, so that two in one process stay apart."""

    def __init__(self) -> None:
        """All counters begin at zero."""
        self._registry = here = CollectorRegistry()
        by_route = ("route", "method")
        self._requests = Counter("synesthesia_requests", "Answers by route, method and status.", (*by_route, "status"), registry=here)
        self._seconds = Histogram("synesthesia_request_seconds", "Time to the end of the answer.", by_route, buckets=SECONDS, registry=here)
        # Looking a child up takes longer than counting; there are no more of them than routes, methods and statuses.
        self._of_route = functools.cache(
            lambda route, method, status: (self._requests.labels(route, method, str(status)), self._seconds.labels(route, method))
        )
        self._refusals = Counter("synesthesia_refusals", "Answers that are problems, by code.", ("code",), registry=here)
        self._predictions = Counter("synesthesia_predictions", "Sounds judged.", ("outcome",), registry=here)
        self._prediction_seconds = Histogram(
            "synesthesia_prediction_seconds", "Time of decoding, features and network.", buckets=SECONDS, registry=here
        )
        self._wait = Gauge("synesthesia_prediction_wait_seconds", "How long a sound that comes now is expected to wait.", registry=here)
        self._jobs = Gauge("synesthesia_jobs", "Jobs by state.", ("state",), registry=here)
        self._oldest = Gauge("synesthesia_oldest_queued_seconds", "How long the oldest queued job has waited.", registry=here)
        self._streams = Gauge("synesthesia_streams_open", "Sound streams that are heard.", registry=here)
        self._detections = Counter("synesthesia_detections", "Words detected in sound streams.", registry=here)
        self._engines = Gauge("synesthesia_engines_loaded", "Models held ready for predictions.", registry=here)
        self._engine_bytes = Gauge("synesthesia_engine_bytes", "Memory that they are taken for.", registry=here)
        self._engine_loads = Counter("synesthesia_engine_loads", "Models loaded, and loads that failed.", ("outcome",), registry=here)
        self._engine_evictions = Counter("synesthesia_engine_evictions", "Models dropped to stay within the bound.", registry=here)
        self._golden_difference = Gauge(
            "synesthesia_golden_difference", "Largest difference of a loaded model's answers from when it was made.", registry=here
        )
        self._golden_changed = Gauge("synesthesia_golden_changed_models", "Loaded models that answer otherwise.", registry=here)
        self._host = HostMetrics(here)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is a template, never a path as the client wrote it."""
        method = method if method in METHODS else "other"
        answers, times = self._of_route(route, method, status)
        answers.inc()
        times.observe(seconds)

    def count_refusal(self, code: str) -> None:
        """Count one problem by its code, which is one of the published ones."""
        self._refusals.labels(code).inc()

    def observe_prediction(self, outcome: str, seconds: float) -> None:
        """Count one prediction; `outcome` is `answered` or a problem's code."""
        self._predictions.labels(outcome).inc()
        if outcome == "answered":
            self._prediction_seconds.observe(seconds)

    def expect_wait(self, seconds: float) -> None:
        """Take how long a sound that comes now is expected to wait for its prediction."""
        self._wait.set(seconds)

    def streams_open(self, count: int) -> None:
        """Take how many sound streams are open."""
        self._streams.set(count)

    def count_detection(self) -> None:
        """Count one word that was detected in a sound stream; by which label is the client's business, as anybody may invent labels."""
        self._detections.inc()

    def observe_engines(self, size: int, differences: Sequence[float], limit: float) -> None:
        """Take the memory of the engines held, and how far each one's answers are from those of when it was made."""
        self._engine_bytes.set(size)
        self._golden_difference.set(max(differences, default=0.0))
        self._golden_changed.set(sum(difference > limit for difference in differences))

    def count_load(self, outcome: str) -> None:
        """Count one load of an engine; `outcome` is `loaded` or a problem's code."""
        self._engine_loads.labels(outcome).inc()

    def count_evictions(self, count: int) -> None:
        """Count engines that were dropped for others."""
        self._engine_evictions.inc(count)

    def observe_host(self, state: HostState, *, broker: bool) -> None:
        """Take what is true of machine and database now, and whether the broker answers."""
        self._host.observe(state, broker=broker)

    def render(self, jobs: dict[str, int], oldest_queued_seconds: float, engines: int) -> bytes:
        """Return everything as text, with the given state of the moment."""
        for state in JOB_STATES:
            self._jobs.labels(state).set(jobs.get(state, 0))
        self._oldest.set(oldest_queued_seconds)
        self._engines.set(engines)
        return generate_latest(self._registry)
