"""The application: routes behind the gate. A factory, so that importing this starts nothing.

`uvicorn app.main:create_app --factory` serves it; `synesthesia serve` does so with a worker and a broker beside it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, FastAPI
from threadpoolctl import threadpool_limits

from app.batches import Batches
from app.dependencies import refuse_unknown_parameters
from app.documents import CONTRACT_VERSION, document, operation_id
from app.door import Door
from app.errors import install_handlers
from app.exposure import check_exposure
from app.gate import Gate
from app.keyring import KeyRing
from app.lanes import Lanes
from app.listening import Listeners
from app.metrics import Metrics
from app.predictors import Predictors
from app.protocol import DOOR
from app.routes import (
    batch,
    datasets,
    embeddings,
    explanations,
    inference,
    items,
    jobs,
    models,
    page,
    predict,
    stream,
    system,
    transferability,
)
from app.streaming import EventStreams
from app.uploads import Uploads
from worker.keeper import Keeper
from worker.settings import Settings, get_settings

ROUTERS = (
    *(datasets.router, items.router, jobs.router, transferability.router, models.router),
    *(predict.router, batch.router, stream.router, embeddings.router, explanations.router, inference.router, system.router, page.router),
)


class _Api(FastAPI):
    """FastAPI with our OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, made at the first call."""
        return document(self)


def create_app(settings: Settings | None = None) -> Gate:
    """Return the ASGI application. Raises ConfigError for settings that would let strangers in."""
    settings = settings or get_settings()
    check_exposure(settings)
    # Predictions run side by side, each in one thread; numpy's products would start one a core for each of them, and wait for one another.
    threadpool_limits(1, user_api="blas")
    api = create_api(settings)
    gate = Gate(api, settings, api.state.metrics, api.state.ring)
    api.state.door = Door(gate, api.state.predictors, predict.ROUTE, settings.max_sound_bytes)
    return gate


def create_api(settings: Settings) -> FastAPI:
    """Return the routes without the gate: what the OpenAPI document is made from."""
    api = _Api(
        title="Synesthesia",
        summary="Transfer learning from image recognition to speech recognition, as a service.",
        version=CONTRACT_VERSION,
        lifespan=_lifespan,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    api.state.settings = settings
    api.state.metrics = Metrics()
    api.state.ring = KeyRing()
    api.state.predictors = Predictors(settings, api.state.metrics)
    api.state.lanes = Lanes()
    api.state.batches = Batches(api.state.predictors, api.state.lanes)
    api.state.uploads = Uploads(settings)
    api.state.streams = EventStreams()
    api.state.listeners = Listeners(settings, api.state.predictors, api.state.metrics)
    for router in ROUTERS:
        api.include_router(router)
    install_handlers(api)
    return api


@contextlib.asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
    settings: Settings = api.state.settings
    await asyncio.to_thread(api.state.uploads.sweep)
    keeper = Keeper(settings)
    keeper.start()
    api.state.ring.start()
    api.state.predictors.engines.warm()
    try:
        yield {DOOR: api.state.door}
    finally:
        await asyncio.to_thread(keeper.stop)
        await asyncio.to_thread(api.state.ring.stop)
        api.state.listeners.close()
        api.state.predictors.close()
