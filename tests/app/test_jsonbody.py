import asyncio
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BodyTooLargeError, MalformedError, ValidationError
from app.jsonbody import MAX_DEPTH, is_json, parse, small_body, validated, validated_fields
from app.schemas.datasets import DatasetForm
from models.config import JobSpec
from tests.app.conftest import request_of

DATASET = '{"dataset":"ds_1","seed":%s}'

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20)

MALFORMED = {
    "empty": b"",
    "blank": b"  \n",
    "cut short": b'{"dataset": "ds_1"',
    "two documents": b"{} {}",
    "trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "comment": b'{"a": 1 /* no */}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "latin-1": '{"name": "é"}'.encode("latin-1"),
    "overlong utf-8": b'{"name": "\xc0\xaf"}',
    "raw control character": b'{"name": "a\nb"}',
    "NaN": b'{"seed": NaN}',
    "infinity": b'{"seed": Infinity}',
    "minus infinity": b'{"seed": -Infinity}',
    "overflowing float": b'{"seed": 1e999}',
    "negative overflowing float": b'{"seed": -1e999}',
    "2 to the 63": b'{"seed": 9223372036854775808}',
    "below minus 2 to the 63": b'{"seed": -9223372036854775809}',
    "10,000 digits": b'{"seed": ' + b"9" * 10_000 + b"}",
    "200,000 digits": b'{"seed": ' + b"9" * 200_000 + b"}",
    "leading zero": b'{"seed": 01}',
    "plus sign": b'{"seed": +1}',
    "hexadecimal": b'{"seed": 0x10}',
    "lone high surrogate": b'{"name": "\\ud800"}',
    "lone low surrogate": b'{"name": "a\\udfffb"}',
    "lone surrogate in a key": b'{"\\ud800": 1}',
    "lone surrogate deep down": b'{"a": [{"b": ["\\udc00"]}]}',
    "duplicate key": b'{"seed": 1, "seed": 2}',
    "duplicate key by escape": b'{"seed": 1, "\\u0073eed": 2}',
    "duplicate key below": b'{"a": {"b": 1, "b": 1}}',
    "33 levels of lists": b"[" * 34 + b"]" * 34,
    "100,000 levels of lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 open brackets": b"[" * 100_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_plain_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        validated(JobSpec, body)
    assert caught.value.code == "malformed_json"
    assert len(caught.value.message) < 300


def test_depth_is_allowed_up_to_the_limit() -> None:
    assert parse(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH)
    with pytest.raises(MalformedError, match="32 levels"):
        parse(b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0, -0.0, 1e308, 5e-324])
def test_numbers_at_the_edge_pass(number: float) -> None:
    assert parse(json.dumps(number).encode()) == number


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


@given(DOCUMENTS)
def test_every_ordinary_document_comes_back(document: Any) -> None:
    assert parse(json.dumps(document).encode()) == document


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_document_or_a_refusal(body: bytes) -> None:
    with contextlib.suppress(MalformedError, ValidationError):
        validated(JobSpec, body)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ("{}", ["/dataset"]),
        ("[]", [""]),
        ("null", [""]),
        ('"ds_1"', [""]),
        (DATASET % "true", ["/seed"]),
        (DATASET % '"1"', ["/seed"]),
        (DATASET % "1.5", ["/seed"]),
        (DATASET % "null", ["/seed"]),
        (DATASET % "-1", ["/seed"]),
        (DATASET % "2147483648", ["/seed"]),
        ('{"dataset":"ds_1","sed":1}', ["/sed"]),
        ('{"dataset":"ds_1","a/b~c":1}', ["/a~1b~0c"]),
        ('{"dataset":"../../etc/passwd"}', ["/dataset"]),
        ('{"dataset":"ds_1\\n"}', ["/dataset"]),
        ('{"dataset":"ds_1","name":"a\\u0000b"}', ["/name"]),
        ('{"dataset":"ds_1","name":"safe\\u202egnp"}', ["/name"]),
        ('{"dataset":"ds_1","name":""}', ["/name"]),
        ('{"dataset":"ds_1","hyperparameters":{"epochs":0}}', ["/hyperparameters/epochs"]),
        ('{"dataset":"ds_1","hyperparameters":{"epochs":"many"}}', ["/hyperparameters/epochs"]),
        ('{"dataset":"ds_1","hyperparameters":{"epochs":true}}', ["/hyperparameters/epochs"]),
        ('{"dataset":"ds_1","hyperparameters":[]}', ["/hyperparameters"]),
        ('{"dataset":"ds_1","metadata":{"k":1}}', ["/metadata/k"]),
        ('{"dataset":"ds_1","metadata":{"k/x":"v"}}', ["/metadata/k~1x"]),
        ('{"seed":-1,"type":"train"}', ["/dataset", "/type", "/seed"]),
    ],
)  # fmt: skip
def test_each_wrong_field_is_pointed_at(body: str, pointers: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        validated(JobSpec, body.encode())
    assert sorted(error["pointer"] for error in caught.value.errors) == sorted(pointers)
    assert all(error["detail"] and "Value error" not in error["detail"] for error in caught.value.errors)


def test_the_alternatives_of_a_field_become_one_entry() -> None:
    with pytest.raises(ValidationError) as caught:
        validated(JobSpec, b'{"dataset":"ds_1","hyperparameters":{"learning_rate":[]}}')
    (error,) = caught.value.errors
    assert "; or " in error["detail"]


def test_defaults_and_values_arrive() -> None:
    spec = validated(JobSpec, b'{"dataset":"ds_1","hyperparameters":{"epochs":3,"learning_rate":1},"metadata":{"team":"ivr"}}')
    assert (spec.dataset, spec.hyperparameters.epochs, spec.hyperparameters.learning_rate) == ("ds_1", 3, 1.0)
    assert (spec.metadata, spec.seed) == ({"team": "ivr"}, 0)


def test_form_fields_are_pointed_at_too() -> None:
    assert validated_fields(DatasetForm, {"name": "digits", "modality": "audio"}).modality == "audio"
    with pytest.raises(ValidationError) as caught:
        validated_fields(DatasetForm, {"modality": "video", "parent": "ds_1\n"})
    assert {error["pointer"] for error in caught.value.errors} == {"/name", "/modality", "/parent"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/json", True),
        ("Application/JSON ; charset=utf-8", True),
        ("application/ld+json", True),
        ("application/zip", False),
        ("text/json", False),
        ("application/jsonl", False),
        ("multipart/form-data; boundary=application/json", False),
        ("", False),
    ],
)
def test_what_is_declared_as_json(kind: str, expected: bool) -> None:
    assert is_json(request_of([], {"Content-Type": kind})) == expected
    assert not is_json(request_of([]))


def test_a_small_body_is_read_to_its_limit_and_no_further() -> None:
    assert asyncio.run(small_body(request_of([b"abc", b"de"]), 5)) == b"abcde"
    with pytest.raises(BodyTooLargeError):
        asyncio.run(small_body(request_of([b"abc", b"def", b"never read"]), 5))
