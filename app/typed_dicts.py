"""The contract's schemas as typed dictionaries: what app/client_types.py consists of. `python -m app.openapi` writes it anew.

Dictionaries and no classes of their own: what came over the wire is what a caller gets, a field that a newer service adds does no harm,
and nothing has to be imported or checked for it.
"""

import keyword
from typing import Any

Schema = dict[str, Any]

_HEADER = '''"""The contract's schemas as typed dictionaries, made from openapi.json by `make contract`: do not edit."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict
'''
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def module_of(contract: Schema) -> str:
    """Return the text of the module for an OpenAPI document, its schemas in the order of their names."""
    schemas = contract["components"]["schemas"]
    return "\n\n".join([_HEADER, *(_definition(name, schemas[name]) for name in sorted(schemas))])


def _definition(name: str, schema: Schema) -> str:
    if "properties" not in schema:
        return f"{name} = {_type_of(schema)}\n"
    required = set(schema.get("required", ()))
    fields = {field: _field(_type_of(inner), required=field in required) for field, inner in schema["properties"].items()}
    if not all(field.isidentifier() and not keyword.iskeyword(field) for field in fields):
        body = "".join(f'        "{field}": {type_},\n' for field, type_ in fields.items())
        return f'{name} = TypedDict(\n    "{name}",\n    {{\n{body}    }},\n)\n'
    lines = [f"class {name}(TypedDict):", f'    """{_sentence(schema, name)}"""', ""]
    return "\n".join(lines + [f"    {field}: {type_}" for field, type_ in fields.items()]) + "\n"


def _field(type_: str, *, required: bool) -> str:
    return type_ if required else f"NotRequired[{type_}]"


def _sentence(schema: Schema, name: str) -> str:
    """Return the first line of a description."""
    return str(schema.get("description", f"{name}.")).partition("\n")[0].replace("\\", "\\\\").replace('"""', "'''")


def _type_of(schema: Schema) -> str:
    """Return the annotation of a schema; what says nothing, or too much for a type, is Any."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema or "enum" in schema:
        return f"Literal[{', '.join(repr(value) for value in schema.get('enum', [schema.get('const')]))}]"
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return _any_of([_type_of(inner) for inner in schema[choice]])
    if "allOf" in schema:
        return _type_of(schema["allOf"][0]) if len(schema["allOf"]) == 1 else "Any"
    kind = schema.get("type")
    if isinstance(kind, list):
        return _any_of([_type_of({**schema, "type": one}) for one in kind])
    return _container(schema) or _PLAIN.get(str(kind), "Any")


def _container(schema: Schema) -> str | None:
    if schema.get("type") == "array":
        return f"list[{_type_of(schema['items'])}]" if "items" in schema else "list[Any]"
    if schema.get("type") == "object":
        rest = schema.get("additionalProperties")
        rest = rest if isinstance(rest, dict) else next(iter(schema.get("patternProperties", {}).values()), {})
        return f"dict[str, {_type_of(rest)}]"
    return None


def _any_of(types: list[str]) -> str:
    return "Any" if "Any" in types else " | ".join(dict.fromkeys(types))
