"""Models, their evaluation, aliases and backbones."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.common import Listing, Time
from models.config import Frozen, LineageEntry, Modality, Text, TransferRecord


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
    metrics: dict[str, float]
    sha256: str = Field(description="of model.safetensors")
    created_at: Time
    aliases: list[str]


class Evaluation(BaseModel):
    """How a model did on each split that it was judged on."""

    model_config = ConfigDict(extra="allow")

    object: Literal["evaluation"]
    model: str
    splits: dict[str, Any] = Field({}, description="split → accuracy, macro_f1, per_label, confusion_matrix, ece, n, interval_95, by_group")


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


class ModelList(Listing[Model]):
    """Models, newest first."""


class AliasList(Listing[Alias]):
    """Aliases by name."""


class BackboneList(Listing[Backbone]):
    """Backbones: architectures, timm weights at hand, own image models."""
