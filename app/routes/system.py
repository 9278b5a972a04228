"""The service itself: is it alive, is it ready, what are its limits."""

import asyncio
import platform
from importlib import metadata

from fastapi import APIRouter, Request, Response

from app.answers import Answer, listing, problems
from app.dependencies import PredictorsDep, SettingsDep
from app.limits import limits_in_force
from app.metrics import CONTENT_TYPE, Metrics
from app.problems import TITLES
from app.readiness import check_all
from app.schemas.system import Health, Limits, ProblemList, Readiness, Version
from worker import jobs

router = APIRouter(tags=["system"])


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


@router.get("/metrics", response_class=Response, responses=problems(503))
async def get_metrics(request: Request, predictors: PredictorsDep) -> Response:
    """Counters for Prometheus."""
    counts, oldest = await asyncio.to_thread(jobs.count_by_state)
    metrics: Metrics = request.app.state.metrics
    metrics.expect_wait(predictors.wait_seconds)
    return Response(metrics.render(counts, oldest, predictors.loaded), media_type=CONTENT_TYPE)


def program_version() -> str:
    """Return the installed version; a checkout that was never installed has none."""
    try:
        return metadata.version("synesthesia")
    except metadata.PackageNotFoundError:
        return "0+unknown"
