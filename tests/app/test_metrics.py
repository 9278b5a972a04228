import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import JOB_STATES, METHODS, Metrics
from app.schemas.jobs import JobStatus
from worker.states import ACTIVE, TERMINAL


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    text = metrics.render({"queued": 2}, 7.5, 3).decode()
    found = [s.value for family in text_string_to_metric_families(text) for s in family.samples if s.name == name and s.labels == labels]
    (value,) = found
    return value


def test_answers_are_counted_and_timed() -> None:
    metrics = Metrics()
    for status in (200, 200, 404):
        metrics.observe_request("/jobs/{job_id}", "GET", status, 0.02)
    assert sample(metrics, "synesthesia_requests_total", route="/jobs/{job_id}", method="GET", status="200") == 2
    assert sample(metrics, "synesthesia_request_seconds_count", route="/jobs/{job_id}", method="GET") == 3
    assert sample(metrics, "synesthesia_request_seconds_sum", route="/jobs/{job_id}", method="GET") == pytest.approx(0.06)
    assert sample(metrics, "synesthesia_request_seconds_bucket", route="/jobs/{job_id}", method="GET", le="0.025") == 3


def test_a_client_can_t_invent_series() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.observe_request("unmatched", f"M{number}", 405, 0.0)
    assert sample(metrics, "synesthesia_requests_total", route="unmatched", method="other", status="405") == 100
    assert "GET" in METHODS


def test_predictions_that_failed_have_no_time() -> None:
    metrics = Metrics()
    metrics.observe_prediction("answered", 0.01)
    metrics.observe_prediction("audio_empty", 0.0)
    assert sample(metrics, "synesthesia_predictions_total", outcome="audio_empty") == 1
    assert sample(metrics, "synesthesia_prediction_seconds_count") == 1


def test_the_moment_is_shown_with_every_state() -> None:
    metrics = Metrics()
    assert [sample(metrics, "synesthesia_jobs", state=state) for state in JOB_STATES] == [2, 0, 0, 0, 0, 0, 0, 0]
    assert sample(metrics, "synesthesia_oldest_queued_seconds") == 7.5
    assert sample(metrics, "synesthesia_engines_loaded") == 3


def test_the_states_are_those_of_the_state_machine() -> None:
    assert set(JOB_STATES) == {"queued", "paused", *ACTIVE, *TERMINAL} == set(JobStatus.__args__)


def test_two_applications_do_not_share_counters() -> None:
    first, second = Metrics(), Metrics()
    first.observe_prediction("answered", 0.01)
    assert sample(second, "synesthesia_prediction_seconds_count") == 0
