"""Jobs: create, watch, cancel, pause, resume."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from app.answers import Answer, Kind, answer_once, fingerprint_of, listing, problems
from app.dependencies import IdempotencyKey, JobId, Limit, MetadataFilter, StreamsDep, require_disk, wants_events
from app.documents import METADATA_PARAMETER, events_response, json_request
from app.jsonbody import json_body
from app.schemas.jobs import CheckpointList, DeliveryList, EventList, Job, JobList, JobStatus, JobType
from app.schemas.quotes import Quote
from app.streaming import EVENT_STREAM
from models.config import JobSpec
from worker import jobs, quotes, webhooks
from worker.pages import Page
from worker.states import TERMINAL

router = APIRouter(tags=["jobs"])
JOB = Kind(202, "/jobs", jobs.get_job)
_EVENT_ID = "^(evt_)?[0-9]{1,18}$"
_After = Annotated[str | None, Query(pattern=r"^job_[0-9a-z]{1,40}$", description="Last id of the page before.")]
_ControlOf = Annotated[str | None, Query(pattern=r"^job_[0-9a-z]{1,40}$", description="The controls of this job, and no other jobs.")]

_DryRun = Annotated[
    bool, Query(description="Queue nothing, and tell in some seconds what the job would take; an Idempotency-Key is ignored.")
]


@router.post(
    "/jobs",
    status_code=202,
    response_model=Job,
    dependencies=[Depends(require_disk)],
    responses={
        **problems(400, 404, 408, 409, 410, 413, 415, 422, 503, 507),
        200: {"model": Quote, "description": "With dry_run: what the job would take"},
    },
    openapi_extra=json_request(JobSpec, creates=True),
)
def create_job(
    request: Request, key: IdempotencyKey, spec: Annotated[JobSpec, Depends(json_body(JobSpec))], dry_run: _DryRun = False
) -> Response:
    """Queue a training job."""
    if dry_run:
        return Answer(quotes.quote_job(spec))
    return answer_once(request, key, fingerprint_of(spec.model_dump_json()), JOB, lambda: jobs.create_job(spec))


@router.get("/jobs", response_model=JobList, responses=problems(422, 503), openapi_extra={"parameters": [METADATA_PARAMETER]})
def list_jobs(
    metadata: MetadataFilter,
    limit: Limit = 20,
    after: _After = None,
    status: JobStatus | None = None,
    type: JobType | None = None,  # noqa: A002 - the parameter's name
    control_of: _ControlOf = None,
) -> Response:
    """List jobs, newest first; the controls of a job only where they are asked for."""
    page = jobs.list_jobs(limit=limit, after=after, status=status, type=type, control_of=control_of, metadata=metadata)
    return listing(page.data, has_more=page.has_more)


@router.get("/jobs/{job_id}", response_model=Job, responses=problems(404, 503))
def get_job(job_id: JobId) -> Response:
    """Look at a job."""
    return Answer(jobs.get_job(job_id))


@router.post("/jobs/{job_id}/cancel", status_code=202, response_model=Job, responses=problems(404, 409, 503))
def cancel_job(job_id: JobId) -> Response:
    """End a job; its best checkpoint stays as a model."""
    return Answer(jobs.cancel_job(job_id), 202)


@router.post("/jobs/{job_id}/pause", status_code=202, response_model=Job, responses=problems(404, 409, 503))
def pause_job(job_id: JobId) -> Response:
    """Stop a job at its next step; it can be resumed."""
    return Answer(jobs.pause_job(job_id), 202)


@router.post("/jobs/{job_id}/resume", status_code=202, response_model=Job, responses=problems(404, 409, 503))
def resume_job(job_id: JobId) -> Response:
    """Queue a paused job again; it goes on from where it stopped."""
    return Answer(jobs.resume_job(job_id), 202)


@router.get("/jobs/{job_id}/events", response_model=EventList, responses=problems(404, 406, 422, 503) | events_response())
async def list_events(
    job_id: JobId,
    live: Annotated[bool, Depends(wants_events)],
    streams: StreamsDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most rows of one page.")] = 100,
    after: Annotated[str | None, Query(pattern=_EVENT_ID, description="Last id of the page before.")] = None,
    last_event_id: Annotated[str | None, Header(pattern=_EVENT_ID, description="As `after`, for event streams.")] = None,
) -> Response:
    """List a job's events, oldest first; with `Accept: text/event-stream` as they happen, until the job has ended."""
    after = last_event_id or after
    page = await asyncio.to_thread(jobs.list_events, job_id, after=after, limit=limit)
    if not live:
        return listing(page.data, has_more=page.has_more)
    streams.require_room()

    def fetch(position: str | None) -> Page:
        return jobs.list_events(job_id, after=position, limit=limit)

    def has_ended() -> bool:
        return jobs.get_job(job_id)["status"] in TERMINAL

    return StreamingResponse(
        streams.follow(page, after, fetch, has_ended),
        media_type=EVENT_STREAM,
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


@router.get("/jobs/{job_id}/checkpoints", response_model=CheckpointList, responses=problems(404, 503))
def list_checkpoints(job_id: JobId) -> Response:
    """List the kept checkpoints of a job, each with its metrics and a model that can be asked."""
    return listing(jobs.list_checkpoints(job_id))


@router.get("/jobs/{job_id}/webhooks", response_model=DeliveryList, responses=problems(404, 503))
def list_deliveries(job_id: JobId) -> Response:
    """List the messages about a job's end, one an address, and what became of each."""
    return listing(webhooks.list_deliveries(job_id))
