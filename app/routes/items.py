"""Single items of a dataset: what became of each, what is kept of it, and a sound as a picture."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.answers import Answer, problems
from app.caching import knows
from app.dependencies import DatasetId
from app.explaining import picture_of_item
from app.ranges import ranged
from app.schemas.datasets import Item
from app.schemas.pictures import Spectrogram
from models.errors import InputError
from models.playable import to_png, to_wav
from worker.contents import get_item as found_item
from worker.contents import kept_item

router = APIRouter(prefix="/datasets/{dataset_id}/items/{item_id}", tags=["datasets"])
WAV, PNG = "audio/wav", "image/png"
# Of its own reader only; an item never changes, but its dataset can be deleted.
_CACHED = {"Cache-Control": "private, max-age=3600", "Vary": "Authorization"}
_FILE = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (WAV, PNG)}
ItemId = Annotated[str, Path(description="Id of the item, `itm_…`.")]


@router.get("", response_model=Item, responses=problems(404, 409, 410, 503))
def get_item(dataset_id: DatasetId, item_id: ItemId) -> Response:
    """Look at one file of a dataset."""
    return Answer(found_item(dataset_id, item_id))


@router.get(
    "/content",
    responses=problems(404, 409, 410, 416, 503)
    | {
        200: {"description": "The item", "content": _FILE},
        206: {"description": "The part of it that `Range` asks for", "content": _FILE},
        304: {"description": "As known"},
    },
    response_class=Response,
)
def get_item_content(request: Request, dataset_id: DatasetId, item_id: ItemId) -> Response:
    """Hear or see an item as it is trained on: a WAV or a PNG, or one range of its bytes. Nothing is kept of rejected ones."""
    kept = kept_item(dataset_id, item_id)
    etag = f'"{dataset_id}-{item_id}"'
    if knows(request, etag):
        return Response(status_code=304, headers=_CACHED | {"ETag": etag})
    kind, end = (PNG, "png") if kept.sample_rate is None else (WAV, "wav")
    content = to_png(kept.values) if kept.sample_rate is None else to_wav(kept.values, kept.sample_rate)
    headers = _CACHED | {"Content-Disposition": f'inline; filename="{item_id}.{end}"'}
    return ranged(request, content, kind=kind, etag=etag, headers=headers)


@router.get("/spectrogram", response_model=Spectrogram, responses=problems(404, 409, 410, 422, 503))
def get_item_spectrogram(dataset_id: DatasetId, item_id: ItemId) -> Response:
    """See a sound of a dataset as a picture."""
    kept = kept_item(dataset_id, item_id)
    if kept.sample_rate is None:
        raise InputError(f"item {item_id} is a picture, and has no spectrogram", code="modality_mismatch")
    answer = Answer(picture_of_item(kept.values, kept.sample_rate))
    answer.headers.update(_CACHED)
    return answer
