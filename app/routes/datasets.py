"""Datasets: upload, generate, look at, delete."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from app.answers import Answer, Kind, answer_once, deleted, fingerprint_of, listing, problems
from app.dependencies import DatasetId, IdempotencyKey, Limit, SettingsDep, UploadsDep, require_dataset_quota, require_disk
from app.documents import file_request
from app.errors import ValidationError
from app.filebody import FileBody
from app.jsonbody import is_json, small_body, validated, validated_fields
from app.schemas.common import Deleted
from app.schemas.datasets import Dataset, DatasetForm, DatasetList, DatasetRequest, ItemList, MeasuredTransferList, Statistics
from app.uploads import ARCHIVE_TYPES, Upload, require_format
from models.config import Modality, Split, Text
from worker import datasets, generated
from worker.statistics import statistics_of
from worker.worth import worth_by_items

router = APIRouter(tags=["datasets"])
_DATASET = Kind(202, "/datasets", datasets.get_dataset)
_FIELDS = frozenset(DatasetForm.model_fields)
_AS_FIELD = "With a raw body: as the form's field."
_EXPECTED = "application/zip, application/x-tar or application/gzip, or application/json for images by formula"
_After = Annotated[str | None, Query(pattern=r"^ds_[0-9a-z]{1,40}$", description="Last id of the page before.")]


async def _fields_of_address(
    name: Annotated[str | None, Query(description=_AS_FIELD)] = None,
    modality: Annotated[str | None, Query(description=_AS_FIELD)] = None,
    parent: Annotated[str | None, Query(description=_AS_FIELD)] = None,
) -> dict[str, str]:
    return {field: value for field, value in (("name", name), ("modality", modality), ("parent", parent)) if value is not None}


_Asked = Annotated[dict[str, str], Depends(_fields_of_address)]


@router.post(
    "/datasets",
    status_code=202,
    response_model=Dataset,
    dependencies=[Depends(require_disk), Depends(require_dataset_quota)],
    responses=problems(400, 408, 409, 413, 415, 422, 503, 507),
    openapi_extra=file_request(DatasetForm, ARCHIVE_TYPES, instead=DatasetRequest),
)
async def create_dataset(request: Request, key: IdempotencyKey, uploads: UploadsDep, settings: SettingsDep, asked: _Asked) -> Response:
    """Upload an archive of images or sounds, or as JSON ask for images by formula; either is made ready in the background."""
    if is_json(request):
        _refuse_parameters(asked)
        wanted = validated(DatasetRequest, await small_body(request, settings.max_json_bytes))
        fingerprint = fingerprint_of(wanted.model_dump_json())
        return await asyncio.to_thread(
            answer_once, request, key, fingerprint, _DATASET, lambda: generated.generate_dataset(wanted.config, wanted.name)
        )
    body = FileBody(request, fields=_FIELDS, takes=ARCHIVE_TYPES.__contains__, expected=_EXPECTED)
    if not body.is_form:
        validated_fields(DatasetForm, asked)  # before gigabytes are received
    async with uploads.receive(body) as upload:
        form = validated_fields(DatasetForm, asked | upload.fields)
        kind = require_format(upload, body.media_type)
        fingerprint = fingerprint_of(upload.sha256, form.model_dump_json())
        return await asyncio.to_thread(answer_once, request, key, fingerprint, _DATASET, lambda: _create(upload, form, kind))


def _refuse_parameters(asked: dict[str, str]) -> None:
    if asked:
        raise ValidationError(
            [{"pointer": f"/query/{name}", "detail": "belongs to a raw archive; JSON has its own fields"} for name in asked]
        )


def _create(upload: Upload, form: DatasetForm, kind: str) -> dict[str, Any]:
    return datasets.create_dataset(
        upload=upload.path,
        sha256=upload.sha256,
        size=upload.size,
        upload_format=kind,
        name=form.name,
        modality=form.modality,
        parent=form.parent,
    )


@router.get("/datasets", response_model=DatasetList, responses=problems(422, 503))
def list_datasets(
    limit: Limit = 20,
    after: _After = None,
    status: Literal["processing", "ready", "failed"] | None = None,
    modality: Modality | None = None,
) -> Response:
    """List datasets, newest first."""
    page = datasets.list_datasets(limit=limit, after=after, status=status, modality=modality)
    return listing(page.data, has_more=page.has_more)


@router.get("/datasets/{dataset_id}", response_model=Dataset, responses=problems(404, 410, 503))
def get_dataset(dataset_id: DatasetId) -> Response:
    """Look at a dataset: its progress, then what was found in it."""
    return Answer(datasets.get_dataset(dataset_id))


@router.get("/datasets/{dataset_id}/items", response_model=ItemList, responses=problems(404, 409, 410, 422, 503))
def list_items(
    dataset_id: DatasetId,
    split: Split | None = None,
    label: Annotated[Text | None, Query()] = None,
    status: Literal["accepted", "rejected", "suspect"] | None = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most rows of one page.")] = 20,
    after: Annotated[str | None, Query(max_length=64, description="Last id of the page before.")] = None,
) -> Response:
    """List the files of a dataset, each with what became of it."""
    page = datasets.list_items(dataset_id, split=split, label=label, status=status, limit=limit, after=after)
    return listing(page.data, has_more=page.has_more)


@router.get("/datasets/{dataset_id}/statistics", response_model=Statistics, responses=problems(404, 409, 410, 503))
def get_statistics(dataset_id: DatasetId) -> Response:
    """See how a dataset's items are spread over lengths and speakers."""
    return Answer(statistics_of(dataset_id))


@router.get("/datasets/{dataset_id}/transfers", response_model=MeasuredTransferList, responses=problems(404, 410, 503))
def list_transfers(dataset_id: DatasetId) -> Response:
    """See what transfers were worth by how many items there were to learn from: models of this dataset and of its family by extension."""
    return listing(worth_by_items(dataset_id), key="model")


@router.delete("/datasets/{dataset_id}", response_model=Deleted, responses=problems(404, 409, 410, 503))
def delete_dataset(dataset_id: DatasetId) -> Response:
    """Delete a dataset that no unfinished job uses."""
    datasets.delete_dataset(dataset_id)
    return deleted("dataset", dataset_id)
