"""Predictions."""

from typing import Literal

from pydantic import BaseModel, Field


class Score(BaseModel):
    """A label and its probability."""

    label: str
    probability: float = Field(ge=0, le=1)


class Segment(BaseModel):
    """What was heard in one stretch of a sound."""

    start: float = Field(description="seconds")
    end: float = Field(description="seconds")
    label: str | None = Field(description="null where `rejected`")
    probability: float = Field(ge=0, le=1)
    rejected: bool


class Timings(BaseModel):
    """Where the time went, milliseconds."""

    decode: float
    features: float
    model: float
    total: float


class Prediction(BaseModel):
    """What was heard."""

    object: Literal["prediction"]
    model: str = Field(description="id of the model that answered")
    label: str | None = Field(description="the likeliest label; null where `rejected`")
    probability: float = Field(ge=0, le=1, description="of the likeliest label, also where it is not believed")
    rejected: bool = Field(description="the likeliest label is less probable than the model's threshold for it")
    top_k: list[Score] = Field(description="the likeliest first")
    duration_seconds: float
    warnings: list[str] = Field(description="any of silence, clipped, rescaled")
    timings_ms: Timings
    segments: list[Segment] | None = Field(None, description="where the sound is longer than the model's clip, or when asked for")
