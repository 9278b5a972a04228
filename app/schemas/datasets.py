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


class DatasetList(Listing[Dataset]):
    """Datasets, newest first."""


class ItemList(Listing[Item]):
    """Items of a dataset, in the order of the archive."""
