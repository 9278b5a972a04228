"""What routes ask for, as types: the process's parts, ids that are checked before they reach a query, room on the disk.

All are coroutines: FastAPI would send plain functions through a thread, which takes longer than they do.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import Depends, Path, Query
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request

from app.batches import Batches
from app.errors import MalformedError, NotAcceptableError, ValidationError
from app.jsonbody import JSON_TYPE
from app.lanes import Lanes
from app.predictors import Predictors
from app.streaming import EVENT_STREAM, EventStreams
from app.uploads import Uploads
from models.config import METADATA_KEY
from worker import quotas
from worker.disk import room
from worker.errors import NotFoundError, StorageFullError
from worker.keys import Caller
from worker.settings import Settings

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # of aliases; ids have the same alphabet
_METADATA = re.compile(rf"metadata\[({METADATA_KEY})\]")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_DISK_RETRY_SECONDS = 60
_KEPT_NAMES = "synesthesia_query_names"
_JSON_RANGES = frozenset({JSON_TYPE, "application/*", "*/*"})


def _held(name: str) -> Callable[[Request], Awaitable[Any]]:
    """Return the dependency that gives what the application holds under `name`."""

    async def get(request: Request) -> Any:
        return getattr(request.app.state, name)

    return get


SettingsDep = Annotated[Settings, Depends(_held("settings"))]
PredictorsDep = Annotated[Predictors, Depends(_held("predictors"))]
UploadsDep = Annotated[Uploads, Depends(_held("uploads"))]
StreamsDep = Annotated[EventStreams, Depends(_held("streams"))]
LanesDep = Annotated[Lanes, Depends(_held("lanes"))]
BatchesDep = Annotated[Batches, Depends(_held("batches"))]


async def _dataset_id(dataset_id: Annotated[str, Path(description="Id of the dataset, `ds_…`.")]) -> str:
    return _possible("dataset", dataset_id)


async def _job_id(job_id: Annotated[str, Path(description="Id of the job, `job_…`.")]) -> str:
    return _possible("job", job_id)


async def _model_ref(model_id: Annotated[str, Path(description="Id of the model, `mdl_…`, or an alias.")]) -> str:
    return _possible("model or alias", model_id)


async def _model_query(
    model: Annotated[str | None, Query(description="Id or alias; without it, the alias `default`.")] = None,
) -> str | None:
    return None if model is None else _possible("model or alias", model)


async def _alias_ref(name: Annotated[str, Path(description="The alias.")]) -> str:
    return _possible("alias", name)


async def _served_name(name: Annotated[str, Path(description="Id of the model, or an alias.")]) -> str:
    return _possible("model or alias", name)


DatasetId = Annotated[str, Depends(_dataset_id)]
JobId = Annotated[str, Depends(_job_id)]
ModelRef = Annotated[str, Depends(_model_ref)]
ModelQuery = Annotated[str | None, Depends(_model_query)]
AliasRef = Annotated[str, Depends(_alias_ref)]
ServedName = Annotated[str, Depends(_served_name)]
ServedVersion = Annotated[str, Path(description="`1`, or the id of the model that the name stands for.")]
NewAlias = Annotated[str, Path(pattern=f"^{_NAME.pattern}$", description="The alias.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Most rows of one page.")]


def possible_model(name: str) -> str:
    """Return `name` if it may name a model or an alias. Raises NotFoundError."""
    return _possible("model or alias", name)


def _possible(noun: str, value: str) -> str:
    """Return `value` if it may name something; what can't is absent, with the answer of a name that is absent."""
    if not _NAME.fullmatch(value):
        raise NotFoundError(f"there is no {noun} {value[:80]!r}", code=f"{noun.split(maxsplit=1)[0]}_not_found")
    return value


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the route does not have: a misspelt one would otherwise be ignored without a word."""
    if not request.scope["query_string"]:
        return
    allowed = _query_names_of(request.scope["route"])
    pairs = request.query_params.multi_items()
    names = [name for name, _ in pairs]
    problems = {name: "given twice" for name in names if names.count(name) > 1}
    known = ", ".join(sorted(allowed)) or "none"
    problems |= {
        name: f"no parameter of this address; known: {known}" for name in names if _METADATA.sub("metadata[key]", name) not in allowed
    }
    if problems:
        raise ValidationError([{"pointer": f"/query/{name[:80]}", "detail": detail} for name, detail in problems.items()])


def _query_names_of(route: APIRoute) -> frozenset[str]:
    """Return the names of a route's query parameters, kept on the route: looking through its dependencies takes longer than the rest."""
    kept: frozenset[str] | None = getattr(route, _KEPT_NAMES, None)
    if kept is None:
        kept = frozenset(_names_of(route.dependant))
        setattr(route, _KEPT_NAMES, kept)
    return kept


def _names_of(dependant: Dependant) -> set[str]:
    names = {field.alias for field in dependant.query_params}
    if dependant.call is _metadata_filter:
        names.add("metadata[key]")
    return names.union(*(_names_of(inner) for inner in dependant.dependencies))


async def _metadata_filter(request: Request) -> dict[str, str]:
    found = ((_METADATA.fullmatch(name), value) for name, value in request.query_params.items())
    return {match[1]: value for match, value in found if match}


MetadataFilter = Annotated[dict[str, str], Depends(_metadata_filter)]


async def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise MalformedError("Idempotency-Key is 1 to 200 visible ASCII characters", code="header_invalid")
    return key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


async def wants_events(request: Request) -> bool:
    """Whether the caller asks for an event stream and not for JSON. Raises NotAcceptableError for anything else."""
    return accepted_type(request, (EVENT_STREAM,)) == EVENT_STREAM


def accepted_type(request: Request, instead: Sequence[str]) -> str:
    """Return the first of the media types `instead` of JSON that the caller names, else JSON. Raises NotAcceptableError for neither."""
    ranges = {part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")}
    named = [kind for kind in instead if kind in ranges]
    if named:
        return named[0]
    if ranges & _JSON_RANGES:
        return JSON_TYPE
    raise NotAcceptableError(f"the answer comes as {' or '.join((JSON_TYPE, *instead))}")


async def require_disk(settings: SettingsDep) -> None:
    """Refuse what would write more when the disk is at its watermark, so that running jobs can still write checkpoints."""
    share = (await asyncio.to_thread(room, settings)).share
    if share < settings.min_free_fraction:
        raise StorageFullError(
            f"{share:.1%} of the disk is free, {settings.min_free_fraction:.1%} is kept", retry_after=_DISK_RETRY_SECONDS,
            hint="delete datasets and models that are no longer needed",
        )  # fmt: skip


async def require_dataset_quota(request: Request) -> None:
    """Refuse a dataset that the caller may not have, as far as the headers tell, before its body is read. Raises QuotaError."""
    await asyncio.to_thread(quotas.foresee_dataset, _told_size(request))


async def require_storage_quota(request: Request) -> None:
    """Refuse a model that the caller's owner has no room for, as far as the headers tell, before its body is read. Raises QuotaError."""
    await asyncio.to_thread(quotas.foresee_storage, _told_size(request))


def _told_size(request: Request) -> int:
    """Return the bytes of the body, 0 where they are not told."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


def caller_of(request: Request) -> str:
    """Return the id of the key that asks, as the gate found out."""
    caller: Caller = request.scope["caller"]
    return caller.key_id
