"""Jobs, their events and their checkpoints. The body of `POST /jobs` is models.config.JobSpec."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.common import Listing, Time
from app.schemas.transferability import Transferability

JobType = Literal["pretrain", "finetune", "transferability"]
JobStatus = Literal["queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled"]


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class JobProgress(BaseModel):
    """How far a job is."""

    phase: str
    epoch: int | None
    epochs: int | None
    step: int | None
    steps: int | None
    fraction: float = Field(ge=0, le=1)
    eta_seconds: float | None


class Control(BaseModel):
    """A job that tells what another one's transfer was worth."""

    name: Literal["scratch", "frozen", "repeat"]
    job: str
    status: JobStatus


class Job(BaseModel):
    """One piece of training, or a ranking of sources, which has no transfer, hyperparameters and augmentation: they are empty."""

    id: str
    object: Literal["job"]
    type: JobType
    status: JobStatus
    dataset: str
    base_model: str | None
    transfer: dict[str, Any] = Field(description="as asked; as resolved once the job has started")
    hyperparameters: dict[str, Any] = Field(description="as asked; as resolved once the job has started")
    features: dict[str, Any]
    augmentation: dict[str, Any]
    evaluation: dict[str, Any]
    search: dict[str, Any] | None = Field(description="the search for hyper-parameters that was asked for")
    seed: int
    progress: JobProgress
    metrics: dict[str, float | None]
    model: str | None = Field(description="id of the model that came out")
    result: Transferability | None = Field(description="type transferability: the ranking, once the job has succeeded")
    attempt: int = Field(description="how often it was started")
    worker: str | None
    error: JobError | None
    control: Literal["scratch", "frozen", "repeat"] | None = Field(description="what it tells of the job that it is a control of")
    control_of: str | None = Field(description="the job that it is compared with; null for all but controls")
    controls: list[Control] = Field(description="the jobs that tell whether its transfer paid, once it has succeeded")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    name: str | None
    alias: str | None
    metadata: dict[str, str]


class Event(BaseModel):
    """Something that happened to a job."""

    id: str
    object: Literal["event"]
    created_at: Time
    level: Literal["info", "warning", "error"]
    type: Literal["status", "message", "metrics", "checkpoint"]
    message: str
    data: dict[str, Any]


class Delivery(BaseModel):
    """A message about a job's end, and what became of it."""

    id: str = Field(description="the receiver's `webhook-id`")
    object: Literal["delivery"]
    job: str
    receiver: str = Field(description="scheme and host; what follows in the address is often a secret")
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    answer: int | None = Field(description="status of the receiver's last answer")
    error: str | None = Field(description="why the last attempt failed")
    created_at: Time
    delivered_at: Time | None
    next_at: Time | None = Field(description="when it is tried again")


class JobList(Listing[Job]):
    """Jobs, newest first."""


class EventList(Listing[Event]):
    """Events, oldest first."""


class DeliveryList(Listing[Delivery]):
    """Messages about a job's end: one an address."""


class CheckpointList(Listing[dict[str, Any]]):
    """Kept checkpoints, each with its metrics and the id of its model."""
