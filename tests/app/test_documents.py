"""The OpenAPI document against the routes that it describes."""

import re
from typing import Any

import pytest
from fastapi import FastAPI

from app.admission import OPEN_PATHS
from app.main import create_api
from app.problems import TITLES
from worker.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    api: FastAPI = create_api(Settings())
    return api.openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, operation) for path, methods in document["paths"].items() for method, operation in methods.items()]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    return set().union(*(references(inner) for inner in value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    used = {name.removeprefix("#/components/schemas/") for name in references(document)}
    assert used == set(schemas)


def test_operations_are_named_in_camel_case_and_once(operations: list[tuple[str, str, dict[str, Any]]]) -> None:
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(set(names)) == len(names)
    assert {"createJob", "predict", "createDataset", "listEvents"} <= set(names)
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) for name in names)


def test_each_operation_says_what_it_does(operations: list[tuple[str, str, dict[str, Any]]]) -> None:
    for path, method, operation in operations:
        where = f"{method} {path}"
        assert operation.get("description") or operation.get("summary"), where
        assert operation["tags"], where
        assert ("security" in operation) == (path not in OPEN_PATHS), where
        if path not in OPEN_PATHS:
            assert {"401", "500"} <= operation["responses"].keys(), where


def test_every_error_is_a_problem_and_every_answer_has_its_request_id(operations: list[tuple[str, str, dict[str, Any]]]) -> None:
    for path, method, operation in operations:
        for status, response in operation["responses"].items():
            assert "X-Request-ID" in response["headers"], (method, path, status)
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], (method, path, status)


def test_the_published_codes_are_in_the_schema(document: dict[str, Any]) -> None:
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == sorted(TITLES)


def test_the_framework_s_own_errors_are_not_promised(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)


def test_what_creates_takes_a_key(operations: list[tuple[str, str, dict[str, Any]]]) -> None:
    keyed = {operation["operationId"] for _, _, operation in operations if "Idempotency-Key" in str(operation.get("parameters"))}
    assert keyed == {"createDataset", "createJob", "createTransferability", "importModel"}


def test_bodies_that_our_own_parsers_read_are_described(document: dict[str, Any]) -> None:
    upload = document["paths"]["/datasets"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/zip", "application/x-tar", "application/gzip"} <= upload.keys()
    assert upload["application/json"]["schema"]["$ref"].endswith("/DatasetRequest")
    batch = document["paths"]["/predict/batch"]["post"]
    assert batch["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["file"]["type"] == "array"
    assert {"application/json", "text/event-stream", "application/x-ndjson"} == batch["responses"]["200"]["content"].keys()
    inference = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert inference["requestBody"]["content"].keys() == inference["responses"]["200"]["content"].keys()
    assert "audio/wav" in document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/JobSpec")
    assert "text/event-stream" in document["paths"]["/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]


def test_it_is_made_once() -> None:
    api = create_api(Settings())
    assert api.openapi() is api.openapi()
