"""Models, their evaluation, aliases and backbones."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.common import Listing, Time
from app.schemas.datasets import Item
from models.config import Frozen, GoldenRecord, LineageEntry, Modality, Split, Text, TransferRecord


class AliasTarget(Frozen):
    """Body of `PUT /aliases/{name}`."""

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="id of a model, or another alias")


class ModelForm(Frozen):
    """What may stand beside the artifact that is imported."""

    name: Text | None = None


class Layer(BaseModel):
    """One layer of a backbone, as `transfer.until` names it."""

    name: str
    parameters: int


class Model(BaseModel):
    """A trained model."""

    id: str
    object: Literal["model"]
    name: str | None
    modality: Modality
    labels: list[str]
    architecture: str
    parameters: int
    size_bytes: int
    dataset: str | None
    job: str | None
    base_model: str | None
    lineage: list[LineageEntry] = Field(description="oldest first")
    transfer: TransferRecord
    layers: list[Layer] = Field(description="of the backbone, from input to output")
    features: dict[str, Any]
    golden: GoldenRecord | None = Field(description="stored inputs that are replayed before an alias moves; null: an older model has none")
    metrics: dict[str, float]
    sha256: str = Field(description="of model.safetensors")
    created_at: Time
    aliases: list[str]


class ControlResult(BaseModel):
    """What a control came to."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="scratch: nothing carried over; frozen: carried layers held still; repeat: another seed")
    seed: int | None = None
    job: str | None = None
    model: str | None = None
    status: str | None = None
    accuracy: float | None = Field(None, description="on the items that the verdict is made on")
    seconds: float | None = Field(None, description="of training")
    steps: int | None = None
    share: float | None = Field(None, description="of the judged job's training time that it was given")


class TransferWorth(BaseModel):
    """Whether the transfer paid."""

    model_config = ConfigDict(extra="allow")

    verdict: Literal["positive", "neutral", "negative", "unmeasured"]
    gain: float | None = Field(None, description="accuracy with the transfer less that from scratch; 0.1 is ten points")
    interval_95: list[float] | None = Field(None, description="of the gain, by paired bootstrap")
    resampled: Literal["items", "groups"] | None = Field(None, description="what the bootstrap drew anew")
    split: str | None = Field(None, description="test, or validation+test where there are fewer than 100 test items")
    n: int | None = None
    seeds: list[int] = Field([], description="of which both arms were compared")
    accuracy: float | None = Field(None, description="with the transfer, on the same items")
    controls: list[ControlResult] = []
    seconds_to_match: float | None = Field(None, description="of training until validation accuracy was that of from scratch at its end")
    steps_to_match: int | None = None
    reason: str | None = Field(None, description="why it is unmeasured")
    sentence: str | None = Field(None, description="the same for people")


class Calibration(BaseModel):
    """What probabilities were mended by."""

    temperature: float = Field(description="logits are divided by it; above 1 the network was too sure of itself")
    items: int = Field(description="validation items that it was fitted on")
    not_fitted: str | None = Field(None, description="why it was not")


class ConditionResult(BaseModel):
    """Accuracy when the recording is worse in one way."""

    name: str
    accuracy: float
    n: int


class UnknownResult(BaseModel):
    """What the reject option does to sounds that its thresholds were not fitted on."""

    model_config = ConfigDict(extra="allow")

    asked: float = Field(description="`evaluation.unknown_false_accept`")
    accepted_noise: float | None = Field(None, description="share of noises, tones, hum and clicks taken for a label")
    accepted_words: float | None = Field(None, description="share of speech that is none of the labels taken for one")
    known_lost_points: float | None = Field(None, description="right answers that are no longer given, percent of the split's items")
    known_mended_points: float | None = Field(None, description="wrong answers that are no longer given, likewise")


class SuspectedItem(BaseModel):
    """An item whose label is probably wrong."""

    file_name: str
    split: Split
    label: str
    predicted: str
    probability: float


class Evaluation(BaseModel):
    """How a model did on each split that it was judged on."""

    model_config = ConfigDict(extra="allow")

    object: Literal["evaluation"]
    model: str
    splits: dict[str, Any] = Field(
        {},
        description="split → accuracy, macro_f1, per_label, confusion_matrix (null beyond 300 labels), confused, ece, "
        "ece_uncalibrated, reliability, reject_curve, n, interval_95, by_group; "
        "of train, where at most 10,000 items are measured, also n_trained",
    )
    transfer: TransferWorth | None = Field(None, description="whether the transfer paid")
    calibration: Calibration | None = None
    robustness: list[ConditionResult] = Field([], description="sounds: the first is clean, each other one worse in one way")
    unknown: UnknownResult | None = Field(None, description="null: nothing is rejected")
    promotion_refused: str | None = Field(None, description="why no alias moves to the model by itself: its golden clips")
    suspects: list[SuspectedItem] = Field([], description="validation and test items, the most confidently contradicted first")


class Alias(BaseModel):
    """A name that points at a model and can be moved."""

    name: str
    object: Literal["alias"]
    model: str
    updated_at: Time


class Backbone(BaseModel):
    """Something that `base_model` accepts."""

    id: str = Field(description="what to write as base_model")
    object: Literal["backbone"]
    kind: Literal["architecture", "timm", "model", "bundled"]
    architecture: str
    layers: list[Layer]


class JudgedItem(Item):
    """An item that a model was judged on, and what it took it for."""

    predicted: str


class JudgedItemList(Listing[JudgedItem]):
    """Items of one cell of the confusion matrix, in the order of the dataset."""


class ModelList(Listing[Model]):
    """Models, newest first."""


class AliasList(Listing[Alias]):
    """Aliases by name."""


class BackboneList(Listing[Backbone]):
    """Backbones: architectures, timm weights at hand, own image models."""
