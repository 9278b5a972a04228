"""The OpenAPI document: what FastAPI can't derive, because bodies are read here by our own parsers."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.admission import OPEN_PATHS
from app.filebody import FILE_PART, FORM_TYPE
from app.jsonbody import JSON_TYPE
from app.problems import TITLES
from app.schemas.common import Problem
from app.schemas.datasets import DatasetRequest
from app.schemas.inference import InferenceRequest
from app.schemas.models import AliasTarget
from app.streaming import EVENT_STREAM
from models.config import METADATA_KEY, JobSpec
from models.transferability import TransferabilitySpec

CONTRACT_VERSION = "1.1.0"  # of the contract, not of the program: rises when openapi.json changes
BYTES_TYPE = "application/octet-stream"
_REFERENCE = "#/components/schemas/{model}"
_EXTRA_MODELS: tuple[type[BaseModel], ...] = (Problem, DatasetRequest, JobSpec, TransferabilitySpec, AliasTarget, InferenceRequest)
_BINARY = {"type": "string", "format": "binary"}
_KEY_PARAMETER = {
    "name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
    "description": "The same key and request get the same answer again, for a day.",
}  # fmt: skip
METADATA_PARAMETER = {
    "name": "metadata", "in": "query", "required": False, "style": "deepObject", "explode": True,
    "schema": {"type": "object", "patternProperties": {f"^{METADATA_KEY}$": {"type": "string"}}, "additionalProperties": False},
    "description": "`metadata[key]=value`: jobs with that pair.",
}  # fmt: skip
_REQUEST_ID = {"X-Request-ID": {"schema": {"type": "string"}, "description": "As sent, or made; it stands in the log."}}


def json_request(model: type[BaseModel], *, creates: bool = False, binary: bool = False) -> dict[str, Any]:
    """Return the OpenAPI parts of a route that reads `model` as JSON; with `binary` also as JSON with bytes behind it."""
    content = {JSON_TYPE: {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}} | (
        {BYTES_TYPE: {"schema": _BINARY}} if binary else {}
    )
    body = {"required": True, "content": content}
    return {"requestBody": body} | ({"parameters": [_KEY_PARAMETER]} if creates else {})


def file_request(
    form: type[BaseModel] | None,
    raw_types: Iterable[str],
    *,
    instead: type[BaseModel] | None = None,
    creates: bool = True,
    several: bool = False,
) -> dict[str, Any]:
    """Return the OpenAPI parts of a route that reads one file: raw, or in a form beside the fields of `form`; or `instead` as JSON.

    With `several` the form's file may stand more than once.
    """
    content = {FORM_TYPE: {"schema": _form_schema(form, several=several)}} | {kind: {"schema": _BINARY} for kind in raw_types}
    if instead is not None:
        content[JSON_TYPE] = {"schema": {"$ref": _REFERENCE.format(model=instead.__name__)}}
    return {"requestBody": {"required": True, "content": content}} | ({"parameters": [_KEY_PARAMETER]} if creates else {})


def _form_schema(form: type[BaseModel] | None, *, several: bool) -> dict[str, Any]:
    """Return a form's parts: the file or files, and the fields of `form`, which can be left out but not null."""
    file = {"type": "array", "items": _BINARY, "minItems": 1} if several else _BINARY
    found = form.model_json_schema() if form else {"properties": {}}
    fields = {name: _without_null(field) for name, field in found["properties"].items()}
    required = [FILE_PART, *found.get("required", ())]
    return {"type": "object", "properties": {FILE_PART: file, **fields}, "required": required, "additionalProperties": False}


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {name: value for name, value in field.items() if name != "anyOf" and (name, value) != ("default", None)}
    return {**rest, **kinds[0]} if len(kinds) == 1 else field


def file_response(media_type: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI response of a download."""
    return {200: {"description": "The file", "content": {media_type: {"schema": _BINARY}}}}


def events_response(*more: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI response of a feed that is JSON, an event stream, or one of the media types `more`, with a JSON object a line."""
    events = {EVENT_STREAM: {"schema": {"type": "string", "description": "one `data:` line of JSON an event"}}}
    lines = {kind: {"schema": {"type": "string", "description": "one JSON object a line"}} for kind in more}
    return {200: {"content": events | lines}}


def operation_id(route: APIRoute) -> str:
    """Return the handler's name in camel case: create_job → createJob."""
    first, *rest = route.name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def document(api: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of `api`."""
    if api.openapi_schema is None:
        schema = get_openapi(title=api.title, version=api.version, summary=api.summary, routes=api.routes)
        _add_models(schema)
        for path, operations in schema["paths"].items():
            for operation in operations.values():
                _complete(path, operation)
        api.openapi_schema = schema
    return api.openapi_schema


def _add_models(schema: dict[str, Any]) -> None:
    components = schema.setdefault("components", {})
    _, extra = models_json_schema([(model, "validation") for model in _EXTRA_MODELS], ref_template=_REFERENCE)
    schemas = components.setdefault("schemas", {})
    schemas.update(extra["$defs"])
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own shape of errors
        schemas.pop(unused, None)
    schemas["Problem"]["properties"]["code"]["enum"] = sorted(TITLES)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "Not needed on open loopback."}}


def _complete(path: str, operation: dict[str, Any]) -> None:
    if path not in OPEN_PATHS:
        operation["security"] = [{"key": []}]
    for parameter in operation.get("parameters", ()):  # can be left out, but a header or query has no null
        parameter["schema"] = _without_null(parameter["schema"])
    for response in operation["responses"].values():
        response.setdefault("headers", {}).update(_REQUEST_ID)
    undocumented = operation["responses"].get("422", {}).get("content", {}).get("application/json")
    if undocumented is not None:
        del operation["responses"]["422"]
