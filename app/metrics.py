"""What `GET /metrics` shows, in Prometheus' text format. Each process counts for itself, as each is scraped for itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        self._predictions = Counter("synesthesia_predictions", "Sounds judged.", ("outcome",), registry=here)
        self._prediction_seconds = Histogram(
            "synesthesia_prediction_seconds", "Time of decoding, features and network.", buckets=SECONDS, registry=here
        )
        self._jobs = Gauge("synesthesia_jobs", "Jobs by state.", ("state",), registry=here)
        self._oldest = Gauge("synesthesia_oldest_queued_seconds", "How long the oldest queued job has waited.", registry=here)
        self._engines = Gauge("synesthesia_engines_loaded", "Models held ready for predictions.", registry=here)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is a template, never a path as the client wrote it."""
        method = method if method in METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def observe_prediction(self, outcome: str, seconds: float) -> None:
        """Count one prediction; `outcome` is `answered` or a problem's code."""
        self._predictions.labels(outcome).inc()
        if outcome == "answered":
            self._prediction_seconds.observe(seconds)

    def render(self, jobs: dict[str, int], oldest_queued_seconds: float, engines: int) -> bytes:
        """Return everything as text, with the given state of the moment."""
        for state in JOB_STATES:
            self._jobs.labels(state).set(jobs.get(state, 0))
        self._oldest.set(oldest_queued_seconds)
        self._engines.set(engines)
        return generate_latest(self._registry)
