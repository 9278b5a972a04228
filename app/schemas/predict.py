"""Predictions."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.schemas.common import Problem


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


class BatchPrediction(Prediction):
    """What was heard in one file of a batch."""

    name: str | None = Field(description="of the file, as it was sent")
    index: int = Field(ge=0, description="of the file, in the order in which they were sent")


class BatchError(BaseModel):
    """Why one file of a batch has no answer."""

    object: Literal["error"]
    name: str | None = Field(description="of the file, as it was sent")
    index: int = Field(ge=0, description="of the file, in the order in which they were sent")
    error: Problem


class BatchCounts(BaseModel):
    """How the files of a batch fared."""

    answered: int
    failed: int


class PredictionBatch(BaseModel):
    """An answer for each file of a batch."""

    object: Literal["prediction_batch"]
    model: str = Field(description="id of the model that answered, for all files the same")
    data: list[Annotated[BatchPrediction | BatchError, Field(discriminator="object")]] = Field(description="in the order of the files")
    counts: BatchCounts


class Embedding(BaseModel):
    """What the backbone makes of a sound, before the head turns it into labels."""

    object: Literal["embedding"]
    model: str = Field(description="id of the model that answered")
    embedding: list[float] = Field(description="of the clip that a prediction is made from; comparable within one model only")
    dimensions: int = Field(description="numbers in `embedding`")
    duration_seconds: float
    warnings: list[str] = Field(description="any of silence, clipped, rescaled")
    timings_ms: Timings
