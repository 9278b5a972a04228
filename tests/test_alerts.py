"""The alert rules ask for series that GET /metrics shows, with labels and values that they can have."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import JOB_STATES, Metrics
from app.problems import TITLES
from worker.disk import Room
from worker.host_state import Gpu, HostState

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((Path(__file__).parent.parent / "deploy" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SELECTOR = re.compile(r"\b(synesthesia_\w+)(?:\{(\w+)(!?=)\"(\w+)\"\})?")


@pytest.fixture(scope="module")
def shown() -> dict[str, list[dict[str, str]]]:
    """Series → the labels of each of its samples, of a process in which everything has happened once."""
    metrics = Metrics()
    metrics.observe_request("/jobs", "GET", 500, 0.1)
    metrics.observe_prediction("answered", 0.1)
    metrics.count_load("loaded")
    for code in TITLES:
        metrics.count_refusal(code)
    metrics.observe_host(HostState(Room(1, 2), 0, 0, 0, 0, (Gpu("0", 1, 2),)), broker=True)
    families = text_string_to_metric_families(metrics.render({}, 0.0, 0).decode())
    found: dict[str, list[dict[str, str]]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_every_series_of_a_rule_exists(rule: dict[str, Any], shown: dict[str, list[dict[str, str]]]) -> None:
    asked = SELECTOR.findall(rule["expr"])
    assert asked or rule["expr"].startswith("up{")
    for name, label, operator, value in asked:
        assert name in shown
        if operator == "=":
            assert value in {labels.get(label) for labels in shown[name]}
        elif label:
            assert all(label in labels for labels in shown[name])


def test_rules_are_told_apart_and_explained() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 10
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "ticket") for rule in RULES)
    assert {"queued", "running"} <= set(JOB_STATES)
