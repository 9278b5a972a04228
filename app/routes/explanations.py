"""A sound as a picture, and which part of it decided."""

from fastapi import APIRouter, Request, Response

from app.answers import Answer, problems
from app.dependencies import LanesDep, ModelQuery, PredictorsDep, SettingsDep
from app.documents import file_request
from app.explaining import explain, picture_of_sound
from app.filebody import sound_body
from app.hearing import sound_limits
from app.routes.predict import SOUND_TYPES
from app.schemas.pictures import Explanation, Spectrogram
from worker.aliases import DEFAULT_ALIAS

router = APIRouter(tags=["predict"])


@router.post(
    "/spectrograms",
    response_model=Spectrogram,
    responses=problems(400, 408, 413, 415, 422, 503),
    openapi_extra=file_request(None, SOUND_TYPES, creates=False),
)
async def create_spectrogram(request: Request, predictors: PredictorsDep, lanes: LanesDep, settings: SettingsDep) -> Response:
    """See a sound as a picture; nothing is kept of it."""
    async with predictors.collect(sound_body(request)) as data:
        return Answer(await lanes.run(lambda: picture_of_sound(data, sound_limits(settings))))


@router.post(
    "/explanations",
    response_model=Explanation,
    responses=problems(400, 404, 408, 410, 413, 415, 422, 503),
    openapi_extra=file_request(None, SOUND_TYPES, creates=False),
)
async def create_explanation(
    request: Request, predictors: PredictorsDep, lanes: LanesDep, settings: SettingsDep, model: ModelQuery = None
) -> Response:
    """See which part of a sound decided: each part is taken away in turn, and the model asked again. 73 predictions' worth of work."""
    async with predictors.collect(sound_body(request)) as data:
        name = model or DEFAULT_ALIAS
        return Answer(await lanes.run(lambda: explain(predictors, name, data, sound_limits(settings))))
