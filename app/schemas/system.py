"""The service itself."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.common import Listing, Time


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"]


class Check(BaseModel):
    """The state of one thing that the service needs."""

    status: Literal["ok", "degraded", "unavailable"]
    detail: str


class Readiness(BaseModel):
    """Whether requests can be answered. Without a broker jobs are taken and run later: ready, but degraded."""

    status: Literal["ready", "degraded"]
    checks: dict[Literal["database", "broker", "disk", "models"], Check]


class Version(BaseModel):
    """Which program this is."""

    name: str
    version: str
    python: str


class Limits(BaseModel):
    """Every limit in force; sizes in bytes, times in seconds."""

    object: Literal["limits"]
    limits: dict[str, Any]


class AuditEntry(BaseModel):
    """One change, or one that was refused."""

    id: str
    object: Literal["audit"]
    created_at: Time
    key: str = Field(description="id of the key; `settings`: the key of the settings, `open`: none was asked for, `cli`: the command line")
    request_id: str = Field(description="stands in the service's log too")
    action: str = Field(description="method and address, or the command")
    object_id: str | None = Field(description="what was changed; null where nothing was")
    outcome: Literal["done", "refused"]


class AuditList(Listing[AuditEntry]):
    """Who changed what, newest first."""


class PublishedCode(BaseModel):
    """One of the published codes."""

    id: str = Field(description="the code")
    object: Literal["problem"]
    title: str


class ProblemList(Listing[PublishedCode]):
    """All codes that a problem may have."""
