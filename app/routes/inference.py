"""The Open Inference Protocol, version 2, for clients that know KServe, Triton or MLServer: a thin adapter over the same engines.

A name is a model's id or an alias. Models never change, so each has one version: its id, for which `1` may be written.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from app.answers import Answer, problems
from app.dependencies import LanesDep, PredictorsDep, ServedName, ServedVersion, SettingsDep
from app.documents import BYTES_TYPE, file_response, json_request
from app.errors import MalformedError, UnsupportedTypeError
from app.filebody import FileBody
from app.hearing import sound_limits
from app.inference import EXTENSIONS, Reply, describe, infer
from app.jsonbody import JSON_TYPE, validated
from app.lanes import Lanes
from app.predictors import Predictors
from app.readiness import check_all
from app.routes.system import program_version
from app.schemas.inference import (
    InferenceRequest,
    InferenceResponse,
    InferenceServer,
    ServedModel,
    ServedModelReady,
    ServerLive,
    ServerReady,
)
from models.engine import Engine
from worker.errors import NotFoundError
from worker.settings import Settings

router = APIRouter(prefix="/v2", tags=["inference"])
HEADER_LENGTH = "Inference-Header-Content-Length"
_ONLY_VERSION = "1"
_HeaderLength = Annotated[int | None, Header(alias=HEADER_LENGTH, ge=0, description="Bytes of JSON, where tensors stand behind it.")]
_INFER: dict[str, Any] = {
    "response_model": InferenceResponse,
    "responses": problems(400, 404, 408, 410, 413, 415, 422, 503) | file_response(BYTES_TYPE),
    "openapi_extra": json_request(InferenceRequest, binary=True),
}


@router.get("", response_model=InferenceServer, responses=problems())
async def get_inference_server() -> Response:
    """Which server this is, in the words of the protocol."""
    return Answer({"name": "synesthesia", "version": program_version(), "extensions": list(EXTENSIONS)})


@router.get("/health/live", response_model=ServerLive)
async def check_server_live() -> Response:
    """The process is alive; needs nothing."""
    return Answer({"live": True})


@router.get("/health/ready", response_model=ServerReady, responses=problems(503))
async def check_server_ready(settings: SettingsDep, predictors: PredictorsDep) -> Response:
    """Whether requests can be answered; `GET /readyz` tells it part by part."""
    await check_all(settings, predictors)
    return Answer({"ready": True})


@router.get("/models/{name}", response_model=ServedModel, responses=problems(404, 410, 422, 503))
def get_served_model(name: ServedName, predictors: PredictorsDep) -> Response:
    """What a speech model takes and gives."""
    return Answer(describe(name, *_served(predictors, name, None)))


@router.get("/models/{name}/versions/{version}", response_model=ServedModel, responses=problems(404, 410, 422, 503))
def get_served_version(name: ServedName, version: ServedVersion, predictors: PredictorsDep) -> Response:
    """What a speech model takes and gives, if the name stands for that version."""
    return Answer(describe(name, *_served(predictors, name, version)))


@router.get("/models/{name}/ready", response_model=ServedModelReady, responses=problems(404, 410, 422, 503))
def check_served_model(name: ServedName, predictors: PredictorsDep) -> Response:
    """Load a model, and tell that it answers."""
    _served(predictors, name, None)
    return Answer({"name": name, "ready": True})


@router.get("/models/{name}/versions/{version}/ready", response_model=ServedModelReady, responses=problems(404, 410, 422, 503))
def check_served_version(name: ServedName, version: ServedVersion, predictors: PredictorsDep) -> Response:
    """Load a model, and tell that it answers, if the name stands for that version."""
    _served(predictors, name, version)
    return Answer({"name": name, "ready": True})


@dataclass(frozen=True)
class _Call:
    """An inference request and what answers it."""

    request: Request
    predictors: Predictors
    lanes: Lanes
    settings: Settings
    header_length: int | None

    async def answer(self, name: str, version: str | None) -> Response:
        """Return the outputs of the model that `name` stands for."""
        body = FileBody(self.request, fields=frozenset(), takes=lambda _: True, expected=JSON_TYPE)
        if body.is_form or (self.header_length is None and body.media_type not in (JSON_TYPE, BYTES_TYPE)):
            raise UnsupportedTypeError(
                f"the body is {body.media_type}, which is not taken here", hint=f"send {JSON_TYPE}, or {HEADER_LENGTH} with tensors behind"
            )
        async with self.predictors.collect(body) as data:
            reply = await self.lanes.run(lambda: self._infer(name, version, data))
        return _response(reply)

    def _infer(self, name: str, version: str | None, data: bytes) -> Reply:
        length = len(data) if self.header_length is None else self.header_length
        if length > len(data):
            raise MalformedError(f"{HEADER_LENGTH} is {length}, the body has {len(data)} bytes", code="header_invalid")
        asked = validated(InferenceRequest, data[:length])
        model_id, engine = _served(self.predictors, name, version)
        return infer(name, model_id, engine, asked, data[length:], sound_limits(self.settings))


async def _call(
    request: Request, predictors: PredictorsDep, lanes: LanesDep, settings: SettingsDep, header_length: _HeaderLength = None
) -> _Call:
    return _Call(request, predictors, lanes, settings, header_length)


_CallDep = Annotated[_Call, Depends(_call)]


@router.post("/models/{name}/infer", **_INFER)
async def infer_by_name(name: ServedName, call: _CallDep) -> Response:
    """Hear what is said in clips or sound files: tensors in, tensors out."""
    return await call.answer(name, None)


@router.post("/models/{name}/versions/{version}/infer", **_INFER)
async def infer_by_version(name: ServedName, version: ServedVersion, call: _CallDep) -> Response:
    """Hear what is said in clips or sound files, if the name stands for that version."""
    return await call.answer(name, version)


def _served(predictors: Predictors, name: str, version: str | None) -> tuple[str, Engine]:
    """Return id and engine of the model that `name` stands for. Raises NotFoundError where that is another `version`; blocks."""
    model_id, engine = predictors.engine(name)
    if version not in (None, _ONLY_VERSION, model_id):
        raise NotFoundError(
            f"{name} has no version {str(version)[:80]!r}; it stands for {model_id}", code="model_version_not_found",
            hint=f"leave the version out, or ask for {_ONLY_VERSION} or {model_id}",
        )  # fmt: skip
    return model_id, engine


def _response(reply: Reply) -> Response:
    """Return the answer as JSON, or with the tensors behind it that were asked for as bytes."""
    if not any(reply.binary):
        return Answer(reply.document)
    head = json.dumps(reply.document, separators=(",", ":")).encode()
    return Response(b"".join((head, *reply.binary)), media_type=BYTES_TYPE, headers={HEADER_LENGTH: str(len(head))})
