"""Datasets and their items."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.schemas.common import Listing, Time
from models.config import Frozen, Modality, Split, Text
from models.formula.generator import FormulaConfig


class DatasetForm(Frozen):
    """What stands beside the archive: fields of the form, or parameters of the address."""

    name: Text
    modality: Modality | None = Field(None, description="found from the files unless given")
    parent: str | None = Field(None, pattern=r"^ds_[0-9a-z]{1,40}$", description="a dataset to extend; it stays as it is")


class DatasetRequest(FormulaConfig):
    """Body of `POST /datasets` that asks for pictures by formula instead of sending an archive."""

    name: Text | None = Field(None, description="default: generator and numbers")

    @property
    def config(self) -> FormulaConfig:
        """What is to be drawn, whatever it is called."""
        return FormulaConfig(**self.model_dump(exclude={"name"}))


class DatasetError(BaseModel):
    """Why a dataset failed."""

    code: str
    message: str
    param: str | None = None


class Dataset(BaseModel):
    """A dataset, uploaded or generated; what was found in it stands here once it is `ready`."""

    id: str
    object: Literal["dataset"]
    name: str
    modality: Modality | None = Field(description="null until it is found from the files")
    status: Literal["processing", "ready", "failed", "deleted"]
    parent: str | None = None
    sha256: str = Field(description="of the archive; of the request, where pictures are generated")
    size_bytes: int = Field(description="of the archive; of the pixels, where pictures are generated")
    generator: FormulaConfig | None = Field(None, description="what was asked for, where pictures are generated")
    created_at: Time
    progress: dict[str, Any] | None = None
    labels: list[str] | None = None
    items: int | None = Field(None, description="accepted items")
    rejected: int | None = None
    splits: dict[Split, int] | None = None
    groups: int | None = Field(None, description="speakers, where the dataset names them")
    per_label: dict[str, Any] | None = None
    duration_seconds: float | None = None
    warnings: list[Any] | None = None
    error: DatasetError | None = None


class Doubt(BaseModel):
    """A model that takes an item for another label, with confidence."""

    model: str = Field(description="the newest one of the dataset that judged single items")
    predicted: str
    probability: float


class Item(BaseModel):
    """One file of a dataset, and what became of it."""

    id: str
    object: Literal["item"]
    file_name: str
    label: str | None
    split: Split | None
    group: str | None
    status: Literal["accepted", "rejected", "suspect"]
    reasons: list[str]
    duplicate_of: str | None
    duration_seconds: float | None = Field(None, description="sounds")
    width: int | None = Field(None, description="pictures, pixels")
    height: int | None = Field(None, description="pictures, pixels")
    kept: bool = Field(description="whether it can be heard or seen at `content`: rejected ones are not kept")
    doubt: Doubt | None = Field(None, description="why an item with the reason `label_doubted` is suspect")


class Durations(BaseModel):
    """How long the sounds are, seconds."""

    shortest: float
    median: float
    longest: float
    edges: list[float] = Field(description="of the bars that `counts` are of, one more than those")
    counts: list[int]


class GroupCount(BaseModel):
    """A speaker, or another group."""

    group: str
    splits: dict[Split, int] = Field(description="split → its items there")
    items: int
    duration_seconds: float | None


class Statistics(BaseModel):
    """How a dataset's items are spread."""

    object: Literal["statistics"]
    dataset: str
    durations: Durations | None = Field(description="null for pictures")
    groups: list[GroupCount] = Field(description="those with most items first, at most 200")


class MeasuredAccuracy(BaseModel):
    """A share of right answers."""

    accuracy: float = Field(description="mean over the seeds that were compared")
    interval_95: list[float] = Field(description="of this accuracy alone (Wilson), over the items")


class MeasuredTransfer(BaseModel):
    """Whether a model's transfer paid, and how many items there were to learn from."""

    model: str
    name: str | None
    dataset: str
    items_per_label: float = Field(description="median of the labels' train items")
    verdict: Literal["positive", "neutral", "negative"]
    gain: float = Field(description="accuracy with the transfer less that from scratch; 0.1 is ten points")
    interval_95: list[float] = Field(description="of the gain, by paired bootstrap")
    split: str = Field(description="what both were judged on, of the model's own dataset")
    n: int = Field(description="items of it")
    own: MeasuredAccuracy = Field(description="with the carried layers")
    scratch: MeasuredAccuracy = Field(description="the same network without them, on the same items")


class DatasetList(Listing[Dataset]):
    """Datasets, newest first."""


class ItemList(Listing[Item]):
    """Items of a dataset, in the order of the archive."""


class MeasuredTransferList(Listing[MeasuredTransfer]):
    """Transfers, those with the fewest items first; ids are those of the models."""
