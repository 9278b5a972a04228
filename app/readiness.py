"""Whether requests can be answered, part by part."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from app.errors import translate
from app.predictors import Predictors
from worker import aliases, jobs, queue, registry
from worker.disk import is_scarce, room
from worker.errors import DependencyError, StateError
from worker.settings import Settings

PATIENCE_SECONDS = 2.0  # with each part; probes usually give up after a few seconds

log = structlog.get_logger(__name__)
Check = dict[str, str]


async def check_all(settings: Settings, predictors: Predictors) -> dict[str, Any]:
    """Return the state of each part. Raises DependencyError (`not_ready`) where no request could be answered."""
    probes: dict[str, Callable[[], Check]] = {
        "database": _database,
        "broker": _broker,
        "disk": lambda: _disk(settings),
        "models": lambda: _models(predictors),
    }
    states = await asyncio.gather(*(_judge(name, probe) for name, probe in probes.items()))
    checks = dict(zip(probes, states, strict=True))
    missing = [f"{name}: {check['detail']}" for name, check in checks.items() if check["status"] == "unavailable"]
    if missing:
        raise DependencyError("; ".join(missing), code="not_ready")
    degraded = any(check["status"] == "degraded" for check in checks.values())
    return {"status": "degraded" if degraded else "ready", "checks": checks}


async def _judge(name: str, probe: Callable[[], Check]) -> Check:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.to_thread(probe)
    except TimeoutError:
        return _state("degraded" if name == "broker" else "unavailable", f"no answer within {PATIENCE_SECONDS:g} s")
    except Exception as error:  # whatever a part does, the others are still told
        log.warning("probe_failed", part=name, exc_info=True)
        return _state("unavailable", translate(error).message)


def _database() -> Check:
    jobs.list_jobs(limit=1)
    return _state("ok", "answers")


def _broker() -> Check:
    return _state("ok", "answers") if queue.ping() else _state("degraded", "does not answer; jobs are taken and run later")


def _disk(settings: Settings) -> Check:
    share = room(settings).share
    low = share < settings.min_free_fraction
    told = ", no new uploads and jobs" if low else ", what nothing names is removed" if is_scarce(settings) else ""
    return _state("degraded" if low else "ok", f"{share:.1%} free{told}")


def _models(predictors: Predictors) -> Check:
    # Which clip it is, and so a label of somebody's data, stands in the log alone: this needs no key.
    reports = predictors.engines.reports()
    changed = [f"{model_id} by {report.max_difference:.2g}" for model_id, report in reports.items() if not report.passed]
    if changed:
        return _state("degraded", f"models answer otherwise than when they were made, in probability: {', '.join(changed)}")
    try:
        registry.resolve_id(aliases.DEFAULT_ALIAS)
    except StateError as error:
        return _state("ok", f"{error.message}; {predictors.loaded} loaded")
    return _state("ok", f"a default model is there; {predictors.loaded} loaded")


def _state(status: str, detail: str) -> Check:
    return {"status": status, "detail": detail}
