"""The service itself: is it alive, is it ready, what are its limits."""

import asyncio
import platform
from importlib import metadata
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.answers import Answer, listing, problems
from app.dependencies import Limit, PredictorsDep, SettingsDep
from app.limits import limits_in_force
from app.metrics import CONTENT_TYPE, Metrics
from app.problems import TITLES
from app.readiness import check_all
from app.schemas.system import AuditList, Health, Limits, ProblemList, Readiness, Version
from worker import audit, host_state, jobs, queue

router = APIRouter(tags=["system"])
_AfterAudit = Annotated[str | None, Query(pattern=r"^aud_[0-9]{1,18}$", description="Last id of the page before.")]
_KeyId = Annotated[str | None, Query(max_length=48, description="What was done with this key: its id, `settings`, `open` or `cli`.")]


@router.get("/healthz", response_model=Health)
async def check_health() -> Response:
    """The process is alive; needs nothing."""
    return Answer({"status": "ok"})


@router.get("/readyz", response_model=Readiness, responses=problems(503))
async def check_readiness(settings: SettingsDep, predictors: PredictorsDep) -> Response:
    """Whether requests can be answered: database, broker, disk, models."""
    return Answer(await check_all(settings, predictors))


@router.get("/version", response_model=Version)
async def get_version() -> Response:
    """Which program this is."""
    return Answer({"name": "synesthesia", "version": program_version(), "python": platform.python_version()})


@router.get("/limits", response_model=Limits, responses=problems())
async def get_limits(settings: SettingsDep) -> Response:
    """Every limit in force; sizes in bytes, times in seconds."""
    return Answer({"object": "limits", "limits": limits_in_force(settings)})


@router.get("/problems", response_model=ProblemList, responses=problems())
async def list_problems() -> Response:
    """All codes that a problem may have."""
    return listing([{"id": code, "object": "problem", "title": title} for code, title in TITLES.items()])


@router.get("/audit", response_model=AuditList, responses=problems(422, 503))
def list_audit(limit: Limit = 20, after: _AfterAudit = None, key: _KeyId = None) -> Response:
    """List who changed what, and who was not let to, newest first. For administrators."""
    page = audit.list_audit(limit=limit, after=after, key_id=key)
    return listing(page.data, has_more=page.has_more)


@router.get("/metrics", response_class=Response, responses=problems(503))
async def get_metrics(request: Request, settings: SettingsDep, predictors: PredictorsDep) -> Response:
    """Counters for Prometheus."""
    (counts, oldest), state, broker = await asyncio.gather(
        asyncio.to_thread(jobs.count_by_state), asyncio.to_thread(host_state.observe, settings), asyncio.to_thread(queue.ping)
    )
    metrics: Metrics = request.app.state.metrics
    metrics.observe_host(state, broker=broker)
    metrics.expect_wait(predictors.wait_seconds)
    return Response(metrics.render(counts, oldest, predictors.loaded), media_type=CONTENT_TYPE)


def program_version() -> str:
    """Return the installed version; a checkout that was never installed has none."""
    try:
        return metadata.version("synesthesia")
    except metadata.PackageNotFoundError:
        return "0+unknown"
