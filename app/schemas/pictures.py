"""Spectrograms, and explanations of answers."""

from typing import Literal

from pydantic import BaseModel, Field

from app.schemas.predict import Score


class Spectrogram(BaseModel):
    """A sound as a picture: what sounds when, and how high."""

    object: Literal["spectrogram"]
    bands: int = Field(description="rows: mel bands from 0 Hz to half the sample rate")
    frames: int = Field(description="columns, equally long: 10 ms, or more where the sound is longer than 4 s")
    duration_seconds: float
    sample_rate: int = Field(description="Hz")
    levels: str = Field(description="base64: a byte for each column of each row, the lowest row first; 0 is silence, 255 the loudest")


class OcclusionMap(BaseModel):
    """How much less probable the answer is without a part of the sound."""

    hertz: list[float] = Field(description="where the rows of `losses` begin, and where the last one ends")
    seconds: list[float] = Field(description="where the columns of `losses` begin, and where the last one ends")
    losses: list[list[float]] = Field(description="a row for each band, the lowest first; below 0: without it the answer is more probable")


class Explanation(BaseModel):
    """What is heard in the loudest clip of a sound, and which part of it decided."""

    object: Literal["explanation"]
    model: str
    label: str | None = Field(description="null: none of the model's labels")
    probability: float
    rejected: bool
    top_k: list[Score]
    explained: str = Field(description="the label that `occlusion` is about: the most probable one, whether it is believed or not")
    spectrogram: Spectrogram = Field(description="of the clip that the model was given, with the silence it was filled up with")
    occlusion: OcclusionMap
    duration_seconds: float = Field(description="of the whole sound")
    warnings: list[str]
    milliseconds: float
