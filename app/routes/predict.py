"""Predictions."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute

from app.answers import Answer, problems
from app.dependencies import ModelQuery, PredictorsDep
from app.documents import file_request
from app.filebody import sound_body
from app.hearing import Options
from app.schemas.predict import Prediction

router = APIRouter(tags=["predict"])
SOUND_TYPES = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", "audio/webm", "audio/mp4", "application/octet-stream")


@router.post(
    "/predict",
    response_model=Prediction,
    responses=problems(400, 404, 408, 410, 413, 415, 422, 503),
    openapi_extra=file_request(None, SOUND_TYPES, creates=False),
)
async def predict(
    request: Request,
    predictors: PredictorsDep,
    model: ModelQuery = None,
    top_k: Annotated[int, Query(ge=1, le=1000, description="Most labels in `top_k`.")] = 5,
    segments: Annotated[bool, Query(description="Always tell what was heard where.")] = False,
) -> Response:
    """Hear what is said in a sound: the form's `file`, or the body itself. The format is told by the bytes."""
    async with predictors.collect(sound_body(request)) as data:
        return Answer(await predictors.predict(model, data, Options(top_k, segments)))


ROUTE = next(route for route in router.routes if isinstance(route, APIRoute))
