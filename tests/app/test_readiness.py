import asyncio
import time
from collections.abc import Callable

import pytest

from app import readiness
from app.metrics import Metrics
from app.predictors import Predictors
from worker.errors import DependencyError
from worker.settings import Settings


@pytest.fixture
def predictors(settings: Settings) -> Predictors:
    return Predictors(settings, Metrics())


def check(settings: Settings, predictors: Predictors) -> dict[str, str]:
    found = asyncio.run(readiness.check_all(settings, predictors))
    return {"all": found["status"], **{name: state["status"] for name, state in found["checks"].items()}}


def test_without_a_broker_it_is_ready_but_degraded(settings: Settings, predictors: Predictors) -> None:
    assert check(settings, predictors) == {"all": "degraded", "database": "ok", "broker": "degraded", "disk": "ok", "models": "ok"}


def test_a_low_disk_is_degraded(change_setting: Callable[..., Settings], predictors: Predictors) -> None:
    assert check(change_setting(min_free_fraction=1.0), predictors)["disk"] == "degraded"


def test_with_a_default_model_it_says_so(settings: Settings, predictors: Predictors, make_model: Callable[..., str]) -> None:
    make_model(alias="default")
    found = asyncio.run(readiness.check_all(settings, predictors))
    assert found["checks"]["models"]["detail"] == "a default model is there; 0 loaded"


@pytest.mark.parametrize(
    ("name", "state"), [("database", "unavailable"), ("disk", "unavailable"), ("models", "unavailable"), ("broker", "degraded")]
)
def test_a_part_that_hangs_does_not_hang_the_answer(
    settings: Settings, predictors: Predictors, monkeypatch: pytest.MonkeyPatch, name: str, state: str
) -> None:
    def hang(*_: object) -> dict[str, str]:
        time.sleep(0.5)
        raise AssertionError("nobody waits for this")

    monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(readiness, f"_{name}", hang)
    monkeypatch.setattr(readiness.queue, "ping", lambda: True)
    if state == "degraded":
        assert check(settings, predictors)[name] == state
    else:
        with pytest.raises(DependencyError, match=f"{name}: no answer within 0.1 s"):
            check(settings, predictors)


def test_a_part_that_fails_oddly_is_named_and_the_others_are_still_asked(
    settings: Settings, predictors: Predictors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> dict[str, str]:
        raise PermissionError("/root/secret")

    monkeypatch.setattr(readiness, "_disk", fail)
    with pytest.raises(DependencyError) as caught:
        check(settings, predictors)
    assert (caught.value.code, caught.value.message.partition(":")[0]) == ("not_ready", "disk")
    assert "secret" not in caught.value.message
