"""The Open Inference Protocol, version 2: the shapes that KServe's, Triton's and MLServer's clients know."""

from typing import Any

from pydantic import BaseModel, Field

from models.config import Frozen


class InferenceServer(BaseModel):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str] = Field(description="of the protocol: binary_tensor_data")


class ServerLive(BaseModel):
    """The process is alive."""

    live: bool


class ServerReady(BaseModel):
    """Requests can be answered."""

    ready: bool


class ServedModelReady(BaseModel):
    """The model is loaded and answers."""

    name: str
    ready: bool


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives."""

    name: str
    datatype: str = Field(description="FP32 or BYTES")
    shape: list[int] = Field(description="-1: as many as there are inputs")


class ServedModelParameters(BaseModel):
    """What this protocol has no place for."""

    labels: list[str] = Field(description="in the order of the probabilities")
    sample_rate: int = Field(description="Hz, of `waveform`")
    alternative_inputs: list[TensorMetadata] = Field(description="may be sent instead of `waveform`: whole sound files, base64 in JSON")


class ServedModel(BaseModel):
    """A model as this protocol sees it."""

    name: str = Field(description="as it was asked for")
    versions: list[str] = Field(description="id of the one model that the name stands for now; `1` means the same")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata] = Field(description="`embedding` is given when it is asked for")
    parameters: ServedModelParameters


class RequestInput(Frozen):
    """A tensor that is sent."""

    name: str = Field(description="waveform: clips, -1 to 1 at the model's rate; audio: whole sound files")
    shape: tuple[int, ...]
    datatype: str = Field(description="FP32 for waveform, BYTES for audio")
    parameters: dict[str, Any] = Field({}, description="binary_data_size: its bytes behind the JSON, instead of `data`")
    data: list[Any] | None = Field(None, description="numbers, nested or row after row; for audio base64")


class RequestOutput(Frozen):
    """A tensor that is wanted."""

    name: str = Field(description="probabilities, label or embedding")
    parameters: dict[str, Any] = Field({}, description="binary_data: true puts it behind the JSON of the answer")


class InferenceRequest(Frozen):
    """Body of `POST /v2/models/{name}/infer`."""

    id: str | None = Field(None, description="comes back with the answer")
    parameters: dict[str, Any] = Field({}, description="binary_data_output: true puts all outputs behind the JSON of the answer")
    inputs: tuple[RequestInput, ...] = Field(description="exactly one")
    outputs: tuple[RequestOutput, ...] | None = Field(None, description="without it: probabilities and label")


class ResponseOutput(BaseModel):
    """A tensor that is given."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = Field(None, description="binary_data_size: its bytes behind the JSON")
    data: list[float] | list[str] | None = Field(None, description="row after row; a label is empty where it is rejected")


class InferenceResponse(BaseModel):
    """The answer to an inference request."""

    model_name: str
    model_version: str = Field(description="id of the model that answered")
    id: str | None = None
    outputs: list[ResponseOutput]
