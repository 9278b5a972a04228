"""The backbone's vector for a sound."""

from fastapi import APIRouter, Request, Response

from app.answers import Answer, problems
from app.dependencies import LanesDep, ModelQuery, PredictorsDep, SettingsDep
from app.documents import file_request
from app.embeddings import embed
from app.filebody import sound_body
from app.hearing import sound_limits
from app.routes.predict import SOUND_TYPES
from app.schemas.predict import Embedding
from worker.aliases import DEFAULT_ALIAS

router = APIRouter(tags=["predict"])


@router.post(
    "/embeddings",
    response_model=Embedding,
    responses=problems(400, 404, 408, 410, 413, 415, 422, 503),
    openapi_extra=file_request(None, SOUND_TYPES, creates=False),
)
async def create_embedding(
    request: Request, predictors: PredictorsDep, lanes: LanesDep, settings: SettingsDep, model: ModelQuery = None
) -> Response:
    """Turn a sound into the vector that the model's head judges by: to search, to cluster, or to train something small on."""
    async with predictors.collect(sound_body(request)) as data:
        name = model or DEFAULT_ALIAS
        return Answer(await lanes.run(lambda: embed(predictors, name, data, sound_limits(settings))))
