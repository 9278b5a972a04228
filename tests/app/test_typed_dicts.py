"""The client's types are those of the contract, and can be used without anything that the service needs."""

import json
import subprocess
import sys
from typing import Any, get_type_hints

import pytest

from app import client_types
from app.openapi import CONTRACT, TYPES
from app.typed_dicts import module_of


def test_the_types_are_those_of_the_contract() -> None:
    """`make contract` writes both."""
    assert TYPES.read_text(encoding="utf-8") == module_of(json.loads(CONTRACT.read_text(encoding="utf-8")))


def test_every_annotation_is_sound() -> None:
    schemas = json.loads(CONTRACT.read_text(encoding="utf-8"))["components"]["schemas"]
    for name, schema in schemas.items():
        if "properties" in schema:
            assert set(get_type_hints(getattr(client_types, name))) == set(schema["properties"])


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "str"),
        ({"const": "job"}, "Literal['job']"),
        ({"enum": ["a", "b"], "type": "string"}, "Literal['a', 'b']"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "int | None"),
        ({"anyOf": [{}, {"type": "null"}]}, "Any"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, "list[Job]"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "dict[str, float]"),
        ({"type": "object", "additionalProperties": True}, "dict[str, Any]"),
        ({"type": ["string", "null"]}, "str | None"),
        ({"allOf": [{"type": "boolean"}]}, "bool"),
        ({}, "Any"),
    ],
)
def test_types(schema: dict[str, Any], expected: str) -> None:
    document = {"components": {"schemas": {"Thing": {"required": ["x"], "properties": {"x": schema}}}}}
    assert f"    x: {expected}\n" in module_of(document)


def test_names_that_are_no_identifiers() -> None:
    document = {"components": {"schemas": {"Thing": {"properties": {"x-y": {"type": "string"}, "class": {}}}}}}
    found: dict[str, Any] = {}
    exec(module_of(document).partition("annotations\n")[2], found)
    assert found["Thing"].__annotations__.keys() == {"x-y", "class"}


def test_the_client_needs_nothing_of_the_service() -> None:
    heavy = ("torch", "fastapi", "starlette", "celery", "sqlalchemy", "numpy", "pydantic")
    script = f"import app.client, app.async_client, app.client_types, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
