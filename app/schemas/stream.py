"""What a client of `WS /predict/stream` may say as text."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from models.audio import AudioLimits
from models.streaming_detector import DEFAULT_TUNING

_SOUND = AudioLimits()
_LONGEST_CLOCK = 10**9  # seconds; a double still tells microseconds apart there


class _Message(BaseModel):
    """Base: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class StreamStart(_Message):
    """What comes, and when a word counts as heard; the first message, where it is sent at all."""

    type: Literal["start"] = "start"
    encoding: Literal["pcm_s16le", "webm"] = Field("pcm_s16le", description="webm: Opus in WebM, as a browser records it")
    sample_rate: int = Field(16000, ge=_SOUND.min_rate, le=_SOUND.max_rate, description="Hz, of PCM")
    channels: int = Field(1, ge=1, le=_SOUND.max_channels, description="of PCM, interleaved")
    resume_from: float = Field(0.0, ge=0, le=_LONGEST_CLOCK, description="seconds that the clock shows at the first sample")
    enter: float = Field(DEFAULT_TUNING.enter, gt=0, le=1, description="mean probability that makes a detection")
    leave: float = Field(DEFAULT_TUNING.leave, ge=0, le=1, description="mean probability below which a word is over")
    refractory_seconds: float = Field(DEFAULT_TUNING.refractory_seconds, ge=0, le=60, description="until the same word may come again")


class StreamStop(_Message):
    """No more sound will come."""

    type: Literal["stop"]


class StreamMessage(RootModel[Annotated[StreamStart | StreamStop, Field(discriminator="type")]]):
    """Any of them."""
