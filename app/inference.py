"""The Open Inference Protocol over an engine: tensors in, tensors out, as JSON or as bytes behind it (its binary tensor data extension).

An element of a BYTES tensor is base64 in JSON; as bytes it follows its length, 4 bytes, the lowest first. All numbers are little-endian.
"""

import base64
import binascii
import functools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.embeddings import clip_of, heard, shortest
from app.schemas.inference import InferenceRequest, RequestInput, RequestOutput
from models.audio import MAX_PEAK, AudioLimits
from models.engine import Engine, Floats
from models.errors import InputError, MediaError

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data",)
MAX_ITEMS = 128  # of one request: each is at most a clip in memory, and all of them hold one lane
DEFAULT_OUTPUTS = ("probabilities", "label")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Reply:
    """An answer: its JSON, and what stands behind it."""

    document: dict[str, Any]
    binary: tuple[bytes, ...]


@dataclass(frozen=True)
class _Tensor:
    """An input as it came: described, and its bytes where they stand behind the JSON."""

    described: RequestInput
    raw: bytes | None

    def require(self, datatype: str, shape: Sequence[int]) -> None:
        """Raise InputError (tensor_invalid) unless it is of that type and shape; the first axis is as long as the sender says."""
        found = self.described
        if found.datatype != datatype:
            raise _invalid(f"{found.name} has the datatype {found.datatype[:20]!r}, it is {datatype}")
        if len(found.shape) != 1 + len(shape) or tuple(found.shape[1:]) != tuple(shape):
            raise _invalid(f"{found.name} has the shape {list(found.shape)[:8]}, the model takes {[-1, *shape]}")
        if not 1 <= found.shape[0] <= MAX_ITEMS:
            raise _invalid(f"{found.name} holds {found.shape[0]} inputs, 1 to {MAX_ITEMS} are taken at once")
        if (found.data is None) == (self.raw is None):
            raise _invalid(f"{found.name} comes either as data or, with binary_data_size, behind the JSON")


def describe(name: str, model_id: str, engine: Engine) -> dict[str, Any]:
    """Return a speech model's metadata; `name` is what it was asked for by."""
    n_samples = engine.clip_samples
    classes, features = len(engine.labels), engine.embedding_size
    outputs = [_metadata("probabilities", "FP32", -1, classes), _metadata("label", "BYTES", -1)]
    return {
        "name": name,
        "versions": [model_id],
        "platform": PLATFORM,
        "inputs": [_metadata("waveform", "FP32", -1, n_samples)],
        "outputs": outputs + ([_metadata("embedding", "FP32", -1, features)] if features else []),
        "parameters": {
            "labels": list(engine.labels),
            "sample_rate": engine.manifest.network.features.sample_rate,
            "alternative_inputs": [_metadata("audio", "BYTES", -1)],
        },
    }


def infer(name: str, model_id: str, engine: Engine, request: InferenceRequest, binary: bytes, limits: AudioLimits) -> Reply:
    """Return the outputs that are asked for; `binary` stands behind the request's JSON. Blocks.

    Raises InputError (tensor_invalid, or that of the first sound which can't be used), ArtifactError (embedding_unavailable).
    """
    tensor = _only_tensor(request, binary)
    wanted = request.outputs if request.outputs is not None else tuple(RequestOutput(name=known) for known in DEFAULT_OUTPUTS)
    unknown = [output.name for output in wanted if output.name not in _OUTPUTS]
    if unknown:
        raise InputError(f"there is no output {unknown[0][:80]!r}; known: {', '.join(_OUTPUTS)}", code="tensor_invalid", param="outputs")
    answers = _Answers(engine, _INPUTS[tensor.described.name](engine, tensor, limits))
    all_binary = request.parameters.get("binary_data_output") is True
    given = [_given(output, answers, binary=output.parameters.get("binary_data", all_binary) is True) for output in wanted]
    document = {"model_name": name, "model_version": model_id} | ({} if request.id is None else {"id": request.id})
    return Reply(document | {"outputs": [output for output, _ in given]}, tuple(raw for _, raw in given))


def _only_tensor(request: InferenceRequest, binary: bytes) -> _Tensor:
    names = [tensor.name for tensor in request.inputs]
    if len(names) != 1 or names[0] not in _INPUTS:
        known = " or ".join(_INPUTS)
        raise InputError(f"the inputs are {str(names)[:200]}, exactly one is taken: {known}", code="tensor_invalid", param="inputs")
    size = request.inputs[0].parameters.get("binary_data_size")
    if size is None and not binary:
        return _Tensor(request.inputs[0], None)
    if size != len(binary) or isinstance(size, bool):
        raise _invalid(f"binary_data_size is {str(size)[:20]}, and {len(binary)} bytes stand behind the JSON")
    return _Tensor(request.inputs[0], binary)


def _waveforms(engine: Engine, tensor: _Tensor, _limits: AudioLimits) -> Floats:
    """Return clips, shape (batch, clip_samples)."""
    n_samples = engine.clip_samples
    tensor.require("FP32", (n_samples,))
    try:
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused below
            flat = np.frombuffer(tensor.raw, "<f4") if tensor.raw is not None else np.asarray(tensor.described.data, np.float32).reshape(-1)
    except (ValueError, TypeError, OverflowError):  # words, rows of different lengths, half a number
        raise _invalid("waveform does not consist of as many numbers as its shape says") from None
    if flat.size != math.prod(tensor.described.shape):
        raise _invalid(f"waveform has {flat.size} numbers, its shape {list(tensor.described.shape)} asks for another count")
    if not np.abs(flat).max() <= MAX_PEAK:  # NaN compares false
        raise _invalid(f"waveform has samples that are not finite or beyond {MAX_PEAK:g} times full scale")
    return flat.reshape(tensor.described.shape)


def _sounds(engine: Engine, tensor: _Tensor, limits: AudioLimits) -> Floats:
    """Return the clips, shape (batch, clip_samples), of whole sound files."""
    tensor.require("BYTES", ())
    files = _elements(tensor.raw) if tensor.raw is not None else _decoded(tensor.described.data or [])
    if len(files) != tensor.described.shape[0]:
        raise _invalid(f"audio has {len(files)} elements, its shape says {tensor.described.shape[0]}")
    return np.stack([_clip(engine, number, file, limits) for number, file in enumerate(files)])


def _clip(engine: Engine, number: int, file: bytes, limits: AudioLimits) -> Floats:
    """Return a clip, shape (clip_samples,)."""
    try:
        return clip_of(engine, heard(engine, file, limits))
    except MediaError as error:
        raise type(error)(f"sound {number}: {error.message}", code=error.code, param=f"inputs.0.data.{number}", hint=error.hint) from None


def _decoded(data: list[Any]) -> list[bytes]:
    try:
        return [base64.b64decode(element, validate=True) for element in data]
    except (TypeError, ValueError, binascii.Error):
        raise _invalid("an element of audio is no base64") from None


def _elements(raw: bytes) -> list[bytes]:
    """Return the elements of a BYTES tensor that follow their lengths."""
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) <= MAX_ITEMS:
        begin = at + _LENGTH.size
        end = begin + _LENGTH.unpack_from(raw, at)[0] if begin <= len(raw) else math.inf
        if end > len(raw):
            raise _invalid("an element of audio is longer than the bytes that are there")
        at = int(end)
        found.append(raw[begin:at])
    return found


class _Answers:
    """What the engine says of some clips; only what is asked for is computed."""

    def __init__(self, engine: Engine, clips: Floats) -> None:
        self._engine = engine
        self._clips = clips

    @functools.cached_property
    def probabilities(self) -> Floats:
        return self._engine.probabilities(self._clips)

    @property
    def embedding(self) -> Floats:
        return self._engine.embeddings(self._clips)

    @property
    def label(self) -> list[str]:
        """The likeliest label of each clip; empty where it is rejected, as this protocol has no null."""
        best = self.probabilities.argmax(axis=1)
        believed = self.probabilities[np.arange(len(best)), best] >= self._engine.thresholds[best]
        return [self._engine.labels[index] if sure else "" for index, sure in zip(best, believed, strict=True)]


_INPUTS: Mapping[str, Callable[[Engine, _Tensor, AudioLimits], Floats]] = {"waveform": _waveforms, "audio": _sounds}
_OUTPUTS: Mapping[str, Callable[[_Answers], Floats | list[str]]] = {
    "probabilities": lambda answers: answers.probabilities,
    "label": lambda answers: answers.label,
    "embedding": lambda answers: answers.embedding,
}


def _given(output: RequestOutput, answers: _Answers, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return an output as it stands in the JSON, and its bytes behind that."""
    values = _OUTPUTS[output.name](answers)
    if isinstance(values, list):
        described: dict[str, Any] = _metadata(output.name, "BYTES", len(values))
        raw = b"".join(_LENGTH.pack(len(text)) + text for text in (value.encode() for value in values))
        data: list[Any] = values
    else:
        described = _metadata(output.name, "FP32", *values.shape)
        raw = values.astype("<f4").tobytes() if binary else b""
        data = [] if binary else shortest(values.reshape(-1))
    if binary:
        return described | {"parameters": {"binary_data_size": len(raw)}}, raw
    return described | {"data": data}, b""


def _metadata(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _invalid(message: str) -> InputError:
    return InputError(message, code="tensor_invalid", param="inputs.0")
