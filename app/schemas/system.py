"""The service itself."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.common import Listing


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


class ProblemCode(BaseModel):
    """One of the published codes."""

    id: str = Field(description="the code")
    object: Literal["problem"]
    title: str


class ProblemList(Listing[ProblemCode]):
    """All codes that a problem may have."""
