"""What all answers share: times, lists, problems."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, WithJsonSchema

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"}), Field(description="RFC 3339, UTC")]
Row = TypeVar("Row")


class Listing(BaseModel, Generic[Row]):
    """One page of a list."""

    object: Literal["list"]
    data: list[Row]
    first_id: str | None = Field(description="id of the first row; null on an empty page")
    last_id: str | None = Field(description="id of the last row: `after` of the next page")
    has_more: bool


class Deleted(BaseModel):
    """What was deleted."""

    id: str
    object: str
    deleted: Literal[True]


class PointedError(BaseModel):
    """One field that is wrong."""

    pointer: str = Field(
        description="JSON pointer into the body; `/query/…` for a parameter of the address", examples=["/hyperparameters/epochs"]
    )
    detail: str


class Problem(BaseModel):
    """An error as RFC 9457 describes it."""

    type: str = Field(examples=["/problems#job_not_found"])
    title: str
    status: int
    detail: str = Field(description="what was wrong with which value")
    instance: str = Field(description="the address that was asked")
    code: str = Field(description="for programs: one of those listed at /problems")
    request_id: str = Field(description="stands in the service's log too")
    hint: str | None = Field(None, description="what to do about it")
    errors: list[PointedError] | None = None
    error: str | None = Field(None, description="below /v2: `detail` again, where clients of that protocol look for it")
