"""Models, aliases and backbones."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import FileResponse, StreamingResponse

from app.answers import Answer, Kind, answer_once, deleted, fingerprint_of, listing, problems
from app.dependencies import (
    AliasRef,
    IdempotencyKey,
    Limit,
    ModelRef,
    NewAlias,
    PredictorsDep,
    UploadsDep,
    require_disk,
    require_storage_quota,
)
from app.documents import file_request, file_response, json_request
from app.filebody import FileBody
from app.jsonbody import json_body, validated_fields
from app.schemas.common import Deleted
from app.schemas.models import (
    Alias,
    AliasList,
    AliasTarget,
    BackboneList,
    Evaluation,
    JudgedItemList,
    Model,
    ModelForm,
    ModelList,
)
from app.streaming import tar_chunks, tar_size
from app.uploads import require_format
from models.config import Modality, Split, Text
from models.errors import ArtifactError
from models.restated import restated
from worker import aliases, registry
from worker.contents import judged_items
from worker.errors import NotFoundError

router = APIRouter(tags=["models"])
_MODEL = Kind(201, "/models", registry.get_model)
_TAR_TYPES = ("application/x-tar", "application/octet-stream")
_After = Annotated[str | None, Query(pattern=r"^mdl_[0-9a-z]{1,40}$", description="Last id of the page before.")]


@router.get("/models", response_model=ModelList, responses=problems(422, 503))
def list_models(
    limit: Limit = 20, after: _After = None, modality: Modality | None = None, name: Annotated[Text | None, Query()] = None
) -> Response:
    """List models, newest first."""
    page = registry.list_models(limit=limit, after=after, modality=modality, name=name)
    return listing(page.data, has_more=page.has_more)


@router.post(
    "/models",
    status_code=201,
    response_model=Model,
    dependencies=[Depends(require_disk), Depends(require_storage_quota)],
    responses=problems(400, 408, 409, 413, 415, 422, 503, 507),
    openapi_extra=file_request(ModelForm, _TAR_TYPES),
)
async def import_model(
    request: Request,
    key: IdempotencyKey,
    uploads: UploadsDep,
    name: Annotated[str | None, Query(description="With a raw body: as the form's field.")] = None,
) -> Response:
    """Take in an artifact as `GET /models/{id}/artifact` gives it: safetensors and ONNX only, every file checked."""
    asked = {} if name is None else {"name": name}
    body = FileBody(request, fields=frozenset(ModelForm.model_fields), takes=_TAR_TYPES.__contains__, expected=_TAR_TYPES[0])
    async with uploads.receive(body) as upload:
        form = validated_fields(ModelForm, asked | upload.fields)
        if require_format(upload, body.media_type) != "tar":
            raise ArtifactError("an artifact is an uncompressed tar", param="file")
        fingerprint = fingerprint_of(upload.sha256, form.model_dump_json())
        return await asyncio.to_thread(
            answer_once, request, key, fingerprint, _MODEL, lambda: registry.import_model(upload.path, name=form.name)
        )


@router.get("/models/{model_id}", response_model=Model, responses=problems(404, 410, 503))
def get_model(model_id: ModelRef) -> Response:
    """Look at a model."""
    return Answer(registry.get_model(model_id))


@router.get("/models/{model_id}/evaluation", response_model=Evaluation, responses=problems(404, 410, 503))
def get_evaluation(model_id: ModelRef) -> Response:
    """See how a model did on each split: accuracy with its interval, per label, confusion, calibration, by speaker."""
    return Answer(registry.get_evaluation(model_id))


@router.get("/models/{model_id}/evaluation/items", response_model=JudgedItemList, responses=problems(404, 409, 410, 422, 503))
def list_judged_items(
    model_id: ModelRef,
    label: Annotated[Text, Query(description="What the items are.")],
    predicted: Annotated[Text, Query(description="What the model took them for.")],
    split: Split = "test",
    limit: Annotated[int, Query(ge=1, le=100, description="Most rows.")] = 20,
) -> Response:
    """List the items behind one cell of a speech model's confusion matrix: to be listened to."""
    return listing(judged_items(model_id, split=split, label=label, predicted=predicted, limit=limit))


@router.get("/models/{model_id}/artifact", responses=problems(404, 410, 503) | file_response("application/x-tar"), response_class=Response)
def get_artifact(model_id: ModelRef) -> Response:
    """Download a model: a tar of weights, description, ONNX graph and card; the card tells the verdict as it stands."""
    found, folder = registry.model_directory(model_id)
    files = sorted(path for path in folder.iterdir() if path.name in registry.ARTIFACT_FILES)
    instead = restated(folder, registry.get_evaluation(found))
    headers = {"Content-Length": str(tar_size(files, instead)), "Content-Disposition": f'attachment; filename="{found}.tar"'}
    return StreamingResponse(tar_chunks(files, instead), media_type="application/x-tar", headers=headers)


@router.get(
    "/models/{model_id}/onnx", responses=problems(404, 410, 416, 503) | file_response("application/octet-stream"), response_class=Response
)
def get_onnx(model_id: ModelRef) -> Response:
    """Download the graph alone: waveform in, probabilities out."""
    found, folder = registry.model_directory(model_id)
    path = folder / "model.onnx"
    if not path.exists():
        raise NotFoundError(f"model {found} has no ONNX graph", code="file_not_found")
    return FileResponse(path, media_type="application/octet-stream", filename=f"{found}.onnx")


@router.delete("/models/{model_id}", response_model=Deleted, responses=problems(404, 409, 410, 503))
def delete_model(model_id: ModelRef, predictors: PredictorsDep) -> Response:
    """Delete a model that no alias points at and no job builds on."""
    found = registry.resolve_id(model_id)
    registry.delete_model(found)
    predictors.forget()
    predictors.engines.drop(found)
    return deleted("model", found)


@router.get("/aliases", response_model=AliasList, responses=problems(503))
def list_aliases() -> Response:
    """List aliases by name."""
    return listing(aliases.list_aliases(), key="name")


@router.put(
    "/aliases/{name}",
    response_model=Alias,
    responses=problems(400, 404, 408, 409, 410, 413, 415, 422, 503),
    openapi_extra=json_request(AliasTarget),
)
def set_alias(name: NewAlias, target: Annotated[AliasTarget, Depends(json_body(AliasTarget))], predictors: PredictorsDep) -> Response:
    """Let an alias point at a model; moving it back is the rollback. Refused where the model answers otherwise than when it was made."""
    alias = aliases.set_alias(name, predictors.engines.examine(target.model))
    predictors.forget()
    return Answer(alias)


@router.delete("/aliases/{name}", response_model=Deleted, responses=problems(404, 503))
def delete_alias(name: AliasRef, predictors: PredictorsDep) -> Response:
    """Remove an alias; its model stays."""
    aliases.delete_alias(name)
    predictors.forget()
    return deleted("alias", name)


@router.get("/backbones", response_model=BackboneList, responses=problems(503))
def list_backbones() -> Response:
    """List what `base_model` accepts, each with its layers from input to output."""
    return listing(registry.list_backbones())
