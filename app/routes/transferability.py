"""Ranking sources before any training: a job like others, whose result is the ranking."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.answers import answer_once, fingerprint_of, problems
from app.dependencies import IdempotencyKey, require_disk
from app.documents import json_request
from app.jsonbody import json_body
from app.routes.jobs import JOB
from app.schemas.jobs import Job
from models.transferability import TransferabilitySpec
from worker import candidates

router = APIRouter(tags=["jobs"])


@router.post(
    "/transferability",
    status_code=202,
    response_model=Job,
    dependencies=[Depends(require_disk)],
    responses=problems(400, 404, 408, 409, 410, 413, 415, 422, 503, 507),
    openapi_extra=json_request(TransferabilitySpec, creates=True),
)
def create_transferability(
    request: Request, key: IdempotencyKey, spec: Annotated[TransferabilitySpec, Depends(json_body(TransferabilitySpec))]
) -> Response:
    """Queue a ranking of sources for a dataset; `result` of the job holds it once the job has succeeded."""
    return answer_once(request, key, fingerprint_of(spec.model_dump_json()), JOB, lambda: candidates.create_ranking(spec))
