"""Which source to build on, told before any training: what is asked, how a source is judged, and the order that comes out.

Nearest neighbors decide, ties go to LogME: of 23 scores the neighbors foretold fine-tuned accuracy best (arXiv 2503.18528). No score knows
what fine-tuning will make of a source, so each stands beside random weights of its own architecture. No torch here: the API reads this.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.config import FeatureConfig, Frozen, MetadataKey, MetadataValue, Text
from models.evaluation import wilson_interval
from models.transfer_scores import Held, Spread, h_score, knn_right, linear_probe, log_me, standardized

Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]
Kind = Literal["model", "bundled", "timm", "random"]
Statistics = Literal["source", "target"]
MOST_CLIPS = 2000  # the error of an accuracy over so many is one percent; more would only make it slower
RANDOM_DRAWS = 3  # networks with random weights differ by some percent: their mean is what a source is held against
MOST_CANDIDATES = 50
_DIGITS = 6


class TransferabilitySpec(Frozen):
    """Body of `POST /transferability`."""

    dataset: str = Field(pattern=r"^ds_[0-9a-z]{1,40}$")
    candidates: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_CANDIDATES)] | None = Field(
        None, description="model ids, aliases, bundled, architectures, timm/<name>; null: own models, bundled and all architectures"
    )
    features: FeatureConfig = FeatureConfig()
    name: Text | None = None
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the random weights, and of the draw of clips")
    metadata: dict[MetadataKey, MetadataValue] = Field({}, max_length=16, json_schema_extra={"additionalProperties": False})


@dataclass(frozen=True)
class Embedded:
    """What one network makes of the clips, shape (n, …) each: its pooled vectors and, where they are cheap, each layer's means."""

    vectors: Vectors  # shape (n, features)
    layers: Mapping[str, Vectors]  # layer → shape (n, channels), from input to output


@dataclass(frozen=True)
class Trial:
    """How one network did under one kind of batch-norm statistics."""

    statistics: Statistics
    knn: float
    linear_probe: float
    logme: float
    h_score: float
    layers: Mapping[str, float]  # layer → accuracy of neighbors

    @property
    def order(self) -> tuple[float, float]:
        """Return what trials are compared by, larger is better."""
        return self.knn, self.logme


@dataclass(frozen=True)
class Verdict:
    """One candidate with its scores, before it has a rank; for random weights the means over several draws."""

    candidate: str  # what to write as base_model
    kind: Kind
    architecture: str
    trial: Trial
    has_seen_dataset: bool = False
    seconds: float = 0.0


def judge(embedded: Embedded, truth: Ints, held: Held, statistics: Statistics) -> Trial:
    """Score what a network makes of clips whose label numbers are `truth`, shape (n,)."""
    spread = Spread.of(embedded.vectors)
    layers = {name: float(knn_right(standardized(vectors), truth, held.apart).mean()) for name, vectors in embedded.layers.items()}
    return Trial(
        statistics=statistics,
        knn=float(knn_right(spread.vectors, truth, held.apart).mean()),
        linear_probe=linear_probe(spread, truth, held.folds),
        logme=log_me(spread, truth),
        h_score=h_score(spread, truth),
        layers=layers,
    )


def mean_trial(trials: Sequence[Trial]) -> Trial:
    """Return the mean of trials of one architecture under the same statistics."""

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    return Trial(
        statistics=trials[0].statistics,
        knn=mean([trial.knn for trial in trials]),
        linear_probe=mean([trial.linear_probe for trial in trials]),
        logme=mean([trial.logme for trial in trials]),
        h_score=mean([trial.h_score for trial in trials]),
        layers={name: mean([trial.layers[name] for trial in trials]) for name in trials[0].layers},
    )


def ranked(verdicts: Sequence[Verdict], clips: int) -> list[dict[str, Any]]:
    """Return the candidates as JSON, best first, each held against random weights of its architecture. `clips` were judged."""
    random = {verdict.architecture: verdict.trial for verdict in verdicts if verdict.kind == "random"}
    order = sorted(verdicts, key=lambda verdict: (*(-number for number in verdict.trial.order), verdict.candidate))
    return [{"rank": rank, **_as_json(verdict, random[verdict.architecture], clips)} for rank, verdict in enumerate(order, start=1)]


def where_to_cut(layers: Mapping[str, float], clips: int) -> str | None:
    """Return the last layer worth carrying over: the deepest whose accuracy is within a standard error of the best; None without any."""
    best = max(layers.values(), default=0.0)
    error = math.sqrt(best * (1 - best) / clips)
    return next((name for name in reversed(tuple(layers)) if layers[name] >= best - error), None)


def _as_json(verdict: Verdict, random: Trial, clips: int) -> dict[str, Any]:
    trial = verdict.trial
    interval = wilson_interval(round(trial.knn * clips), clips)
    gain = None if verdict.kind == "random" else round(trial.knn - random.knn, _DIGITS)
    return {
        "candidate": verdict.candidate,
        "kind": verdict.kind,
        "architecture": verdict.architecture,
        "scores": {name: round(getattr(trial, name), _DIGITS) for name in ("knn", "linear_probe", "logme", "h_score")},
        "knn_interval_95": interval,
        "random_knn": round(random.knn, _DIGITS),
        "gain": gain,
        "better_than_random": None if gain is None else _beyond(random.knn, interval),
        "statistics": trial.statistics,
        "layers": [
            {"name": name, "knn": round(accuracy, _DIGITS), "random_knn": round(random.layers[name], _DIGITS)}
            for name, accuracy in trial.layers.items()
        ],
        "until": where_to_cut(trial.layers, clips),
        "has_seen_dataset": verdict.has_seen_dataset,
        "seconds": round(verdict.seconds, 2),
    }


def _beyond(accuracy: float, interval: Sequence[float]) -> bool | None:
    """Tell whether an interval lies above `accuracy`; None where that is within it: chance explains the difference."""
    low, high = interval
    return None if low <= accuracy <= high else accuracy < low
