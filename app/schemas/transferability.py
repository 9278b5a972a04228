"""What a ranking of sources finds out. The body of `POST /transferability` is models.transferability.TransferabilitySpec."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class Scores(BaseModel):
    """How well a source's vectors tell the labels apart, untrained; larger is better."""

    knn: float = Field(ge=0, le=1, description="accuracy of the 5 nearest neighbors by cosine, leave one group or item out")
    linear_probe: float = Field(ge=0, le=1, description="accuracy of ridge regression on folds held out")
    logme: float = Field(description="evidence of a Bayesian linear model, nats a clip and label (arXiv 2102.11005)")
    h_score: float = Field(description="variance between labels, each direction by its own variance, 0 to labels - 1 (arXiv 2110.06893)")


class LayerScore(BaseModel):
    """What one layer's means tell."""

    name: str
    knn: float
    random_knn: float = Field(description="the same with random weights")


class Candidate(BaseModel):
    """One source and its place."""

    rank: int = Field(ge=1, description="by knn, ties by logme")
    candidate: str = Field(description="what to write as base_model; with kind random, transfer.mode none goes with it")
    kind: Literal["model", "bundled", "timm", "random"]
    architecture: str
    scores: Scores
    knn_interval_95: tuple[float, float]
    random_knn: float = Field(description="knn of random weights of the same architecture, mean of three draws")
    gain: float | None = Field(description="knn less random_knn; null for random weights")
    better_than_random: bool | None = Field(
        description="whether knn_interval_95 lies above random_knn; false: below it, a worse source than none; null: chance explains it"
    )
    statistics: Literal["source", "target"] = Field(description="the batch-norm statistics that did better; see transfer.statistics")
    layers: list[LayerScore] = Field(description="from input to output; empty for timm")
    until: str | None = Field(
        description="the deepest layer within a standard error of the one that tells most: where to end a partial transfer"
    )
    has_seen_dataset: bool = Field(description="it was trained on some of these clips: its scores are too good to compare")
    seconds: float


class Skipped(BaseModel):
    """A candidate that could not be judged."""

    candidate: str
    code: str
    message: str


class Transferability(BaseModel):
    """A ranking of sources for one dataset: the result of a job of type transferability."""

    dataset: str
    clips: int = Field(description="training clips that were judged by")
    labels: int
    held_out: Literal["group", "item"] = Field(description="group: no neighbor has the same voice")
    chance: float = Field(description="accuracy of always saying the commonest label")
    features: dict[str, Any] = Field(description="as resolved")
    candidates: list[Candidate] = Field(description="best first")
    skipped: list[Skipped]
