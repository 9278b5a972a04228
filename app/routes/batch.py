"""Predictions for many sounds at once."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.answers import Answer, problems
from app.batches import MAX_BATCH_FILES, files_of
from app.dependencies import BatchesDep, ModelQuery, PredictorsDep, SettingsDep, UploadsDep, accepted_type, require_disk
from app.documents import events_response, file_request
from app.errors import problem_body
from app.filebody import FileBody
from app.hearing import Options
from app.jsonbody import JSON_TYPE
from app.schemas.predict import PredictionBatch
from app.streaming import EVENT_STREAM
from app.uploads import ARCHIVE_TYPES, Upload, require_format
from models.errors import SynesthesiaError
from worker.aliases import DEFAULT_ALIAS

router = APIRouter(tags=["predict"])
LINES = "application/x-ndjson"
Row = dict[str, Any]
_EXPECTED = "application/zip, application/x-tar or application/gzip"


def _event(name: str, row: Row) -> str:
    number = f"id: {row['index']}\n" if "index" in row else ""
    return f"{number}event: {name}\ndata: {_text(row)}\n\n"


def _text(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


# How an answer, or the counts at the end, is written, by media type.
_WRITERS: dict[str, Callable[[str, Row], str]] = {EVENT_STREAM: _event, LINES: lambda _, row: _text(row) + "\n"}


async def _wanted(
    model: ModelQuery = None,
    top_k: Annotated[int, Query(ge=1, le=1000, description="Most labels in `top_k`.")] = 5,
    segments: Annotated[bool, Query(description="Always tell what was heard where.")] = False,
) -> tuple[str, Options]:
    return model or DEFAULT_ALIAS, Options(top_k, segments)


@router.post(
    "/predict/batch",
    response_model=PredictionBatch,
    dependencies=[Depends(require_disk)],
    responses=problems(400, 404, 406, 408, 410, 413, 415, 422, 503, 507) | events_response(LINES),
    openapi_extra=file_request(None, ARCHIVE_TYPES, creates=False, several=True),
)
async def predict_batch(
    request: Request,
    predictors: PredictorsDep,
    batches: BatchesDep,
    uploads: UploadsDep,
    settings: SettingsDep,
    wanted: Annotated[tuple[str, Options], Depends(_wanted)],
) -> Response:
    """Hear what is said in many sounds: parts named `file`, or one archive. Each file has its own answer, or its own problem, in order.

    As an event stream or as lines each answer is sent when it is made, and there may be more files than in one piece.
    """
    name, options = wanted
    kind = accepted_type(request, tuple(_WRITERS))
    most = MAX_BATCH_FILES if kind == JSON_TYPE else settings.max_members
    body = FileBody(request, fields=frozenset(), takes=ARCHIVE_TYPES.__contains__, expected=_EXPECTED, most_files=most)
    async with contextlib.AsyncExitStack() as held:
        held.enter_context(batches.room())
        # One model answers all of them, wherever an alias is moved meanwhile; a name that stands for none is refused before the upload.
        model_id, _ = await asyncio.to_thread(predictors.engine, name)
        upload = await held.enter_async_context(uploads.receive(body))
        files = await asyncio.to_thread(files_of, upload, _archive_format(upload, body), settings, most)
        answers = batches.answers(files, model_id, options, lambda error: _problem(request, error))
        held.push_async_callback(answers.aclose)
        if kind == JSON_TYPE:
            return Answer(await _collected(request, model_id, answers))
        return _Held(_stream(kind, model_id, answers), media_type=kind, held=held.pop_all())


def _archive_format(upload: Upload, body: FileBody) -> str | None:
    """Return the format of the archive that was sent, None for sounds."""
    if not body.is_form:
        return require_format(upload, body.media_type)
    return upload.format if len(upload.sizes) == 1 else None


def _problem(request: Request, error: SynesthesiaError) -> Row:
    return problem_body(error, instance=request.url.path, request_id=request.scope.get("request_id", ""))


async def _collected(request: Request, model_id: str, answers: AsyncIterator[Row]) -> Row:
    """Return all answers as one; give up where the client has gone, who would be the only one to miss the rest."""
    rows = []
    async for row in answers:
        rows.append(row)
        if await request.is_disconnected():
            raise ClientDisconnect
    return {"object": "prediction_batch", "model": model_id, "data": rows, "counts": _counts(rows)}


async def _stream(kind: str, model_id: str, answers: AsyncIterator[Row]) -> AsyncGenerator[str, None]:
    write = _WRITERS[kind]
    counts = _counts([])
    async for row in answers:
        counts = {name: counts[name] + more for name, more in _counts([row]).items()}
        yield write("prediction", row)
    yield write("done", {"object": "done", "model": model_id, "counts": counts})


def _counts(rows: list[Row]) -> dict[str, int]:
    failed = sum(row["object"] == "error" for row in rows)
    return {"answered": len(rows) - failed, "failed": failed}


class _Held(StreamingResponse):
    """A stream that keeps upload and room until it has ended, also where the client goes away in the middle."""

    def __init__(self, content: AsyncIterator[str], *, media_type: str, held: contextlib.AsyncExitStack) -> None:
        super().__init__(content, media_type=media_type, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)
