"""What a job would take: the answer to `POST /jobs?dry_run=true`."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class Seconds(BaseModel):
    """An interval; most jobs end within it, on a machine that is as busy as it was when it was quoted."""

    low: float
    expected: float
    high: float


class QuoteStage(BaseModel):
    """One part of the job, in order."""

    name: str
    steps: int = Field(description="weight updates' batches; 0 where nothing is trained")
    seconds: Seconds


class Quote(BaseModel):
    """What a job would take. Nothing was queued."""

    object: Literal["quote"]
    resolved: dict[str, Any] = Field(description="the job as it would run, with every auto replaced")
    device: str = Field(description="cpu or cuda")
    trainable_parameters: int = Field(description="numbers that move at some time of the training")
    total_parameters: int
    steps: int = Field(description="batches of all stages")
    estimated_seconds: Seconds = Field(description="from the moment a worker is free to the finished model")
    stages: list[QuoteStage]
    peak_memory_bytes: int = Field(description="of the GPU on cuda, else of the process")
    disk_bytes: int = Field(description="prepared items, checkpoints and artifact")
    warnings: list[str]
