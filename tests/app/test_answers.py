import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from app.answers import Answer, Kind, answer_once, deleted, fingerprint_of, listing, problems
from models.errors import ConfigError, InputError
from worker.errors import ConflictError
from worker.keys import Caller
from worker.settings import Settings


class _Route:
    name = "make"


def request_by(caller: str = "open") -> Request:
    return Request({"type": "http", "route": _Route(), "caller": Caller.of(caller, "write"), "headers": []})


def test_numbers_that_json_lacks_become_null() -> None:
    content = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}], "d": "NaN", "e": None}
    assert json.loads(Answer(content).body) == {"a": None, "b": [None, {"c": [None, 1.5]}], "d": "NaN", "e": None}


def test_text_is_sent_as_utf8() -> None:
    assert Answer({"label": "zwölf \N{GRINNING FACE}"}).body == '{"label":"zwölf \N{GRINNING FACE}"}'.encode()


def test_a_page_names_its_ends() -> None:
    page = json.loads(listing([{"id": "a"}, {"id": "b"}], has_more=True).body)
    assert page == {"object": "list", "data": [{"id": "a"}, {"id": "b"}], "first_id": "a", "last_id": "b", "has_more": True}
    assert json.loads(listing([{"name": "x"}], key="name").body)["last_id"] == "x"
    assert json.loads(listing([]).body)["first_id"] is None


def test_deleted() -> None:
    assert json.loads(deleted("model", "mdl_1").body) == {"id": "mdl_1", "object": "model", "deleted": True}


def test_fingerprints_tell_their_parts_apart() -> None:
    assert fingerprint_of("ab", "c") != fingerprint_of("a", "bc")
    assert fingerprint_of("a") == fingerprint_of("a")


def test_every_route_may_fail_and_ask_for_a_key() -> None:
    assert set(problems(404, 409)) == {404, 409, 401, 403, 429, 500}


class Maker:
    """Counts what it makes; fails where it is told to."""

    def __init__(self) -> None:
        self.made = 0
        self.error: Exception | None = None

    def __call__(self) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.made += 1
        return {"id": f"x{self.made}"}


def once(request: Request, key: str | None, fingerprint: str, make: Callable[[], dict[str, Any]]) -> Answer:
    """Where nothing was ever made without an answer, nothing is looked for."""
    return answer_once(request, key, fingerprint, Kind(201, "/x", lambda made: pytest.fail(f"looked for {made}")), make)


def body_of(answer: Answer) -> str:
    return str(json.loads(answer.body)["id"])


def test_without_a_key_every_request_makes_something(settings: Settings) -> None:
    make = Maker()
    assert [body_of(once(request_by(), None, "f", make)) for _ in range(2)] == ["x1", "x2"]


def test_with_a_key_the_first_answer_comes_again(settings: Settings) -> None:
    make = Maker()
    first, again = (once(request_by(), "k", "f", make) for _ in range(2))
    assert (first.status_code, first.body, first.headers["location"]) == (again.status_code, again.body, again.headers["location"])
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"], make.made) == (False, "true", 1)


def test_another_request_under_the_key_is_refused(settings: Settings) -> None:
    once(request_by(), "k", "f", Maker())
    with pytest.raises(InputError) as caught:
        once(request_by(), "k", "g", Maker())
    assert caught.value.code == "idempotency_mismatch"


def test_another_caller_has_keys_of_its_own(settings: Settings) -> None:
    make = Maker()
    assert [body_of(once(request_by(caller), "k", "f", make)) for caller in ("a", "b", "a")] == ["x1", "x2", "x1"]


def test_while_the_first_is_being_answered_the_second_must_wait(settings: Settings) -> None:
    def make_slowly() -> dict[str, Any]:
        with pytest.raises(ConflictError) as caught:
            once(request_by(), "k", "f", Maker())
        assert caught.value.code == "idempotency_in_progress"
        return Maker()()

    assert body_of(once(request_by(), "k", "f", make_slowly)) == "x1"


@pytest.mark.parametrize("error", [ConfigError("no"), RuntimeError("boom"), KeyboardInterrupt()])
def test_a_failure_gives_the_key_back(settings: Settings, error: BaseException) -> None:
    make = Maker()

    def fail() -> dict[str, Any]:
        raise error

    with pytest.raises(type(error)):
        once(request_by(), "k", "f", fail)
    assert body_of(once(request_by(), "k", "g", make)) == "x1"
