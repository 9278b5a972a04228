"""Refusals at the door: a whole problem, nothing lost of the connection, and never for what is not plainly a prediction."""

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.main import create_app
from app.predictors import Predictors
from app.protocol import Protocol
from tests.app.conftest import check_problem_parts, read_answer, serving, wait_until
from tests.conftest import tone, wav_bytes
from worker.settings import Settings

SOUND = wav_bytes(tone(440, 0.5))
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"


@pytest.fixture
def service(settings: Settings, make_model: Callable[..., str]) -> Iterator[tuple[tuple[str, int], Predictors]]:
    """Address of the application behind our protocol, and its predictors."""
    make_model(alias="default")
    app = create_app(settings)
    with serving(app, http=Protocol) as address:
        yield address, app.app.state.predictors  # type: ignore[attr-defined]  # the gate wraps the application


def overload(predictors: Predictors) -> None:
    predictors._queue.owed = 1e3


def ask(connection: http.client.HTTPConnection, body: bytes = SOUND, path: str = "/predict") -> tuple[int, dict[str, str], bytes]:
    connection.request("POST", path, body, {"Content-Type": "audio/wav"})
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def refused(status: int, headers: dict[str, str], content: bytes, *, seconds: int) -> str:
    """Assert that an answer is the whole refusal, and return its request id."""
    body = check_problem_parts(status, headers, content, "overloaded")
    assert (status, headers["x-content-type-options"], int(headers["retry-after"])) == (503, "nosniff", seconds)
    assert body["instance"] == "/predict"
    return headers["x-request-id"]


def test_a_refusal_is_a_problem_and_the_connection_goes_on(service: tuple[tuple[str, int], Predictors]) -> None:
    address, predictors = service
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=10)) as connection:
        assert ask(connection)[0] == 200
        before = connection.sock
        overload(predictors)
        ids = {refused(*ask(connection), seconds=1000 // predictors._queue.threads) for _ in range(3)}
        assert len(ids) == 3
        predictors._queue.owed = 0.0
        assert ask(connection)[0] == 200
        assert connection.sock is before
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    assert 'synesthesia_requests_total{method="POST",route="/predict",status="503"} 3.0' in text
    assert 'synesthesia_predictions_total{outcome="overloaded"} 3.0' in text


def test_it_is_given_before_the_body_has_come(service: tuple[tuple[str, int], Predictors]) -> None:
    address, predictors = service
    overload(predictors)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(HEAD + b"Content-Length: 5\r\n\r\n")
        status, _, content = read_answer(connection)
        assert (status, json.loads(content)["code"]) == (503, "overloaded")
        connection.sendall(b"12345GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(connection)[0] == 200, "the body was dropped, and the next request is read"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (HEAD + b"Content-Length: 100000\r\n\r\n", 503),  # large: the connection is closed rather than read on
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 503),
        (HEAD.replace(b"1.1", b"1.0") + b"Content-Length: 2\r\n\r\nab", 503),
        (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nab", 503),
        (HEAD + b"Content-Length: 2x\r\n\r\nab", 400),
        (b"GET /predict HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"POST /predictions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 404),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    ],
)
def test_all_else_goes_the_usual_way(service: tuple[tuple[str, int], Predictors], request_bytes: bytes, status: int) -> None:
    address, predictors = service
    overload(predictors)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request_bytes)
        assert read_answer(connection)[0] == status


def test_what_is_taken_in_is_counted_until_it_is_answered_or_gone(service: tuple[tuple[str, int], Predictors]) -> None:
    address, predictors = service
    waiting = [socket.create_connection(address, timeout=10) for _ in range(3)]
    for connection in waiting:
        connection.sendall(HEAD + b"Content-Length: 5\r\n\r\nab")  # the rest does not come
    wait_until(lambda: predictors.begun == 3, what="three to begin")
    waiting.pop().close()
    wait_until(lambda: predictors.begun == 2, what="one to be given up")
    waiting[0].sendall(b"cde")
    assert read_answer(waiting[0])[0] == 415
    wait_until(lambda: predictors.begun == 1, what="one to be answered")
    predictors._queue.pace = 1e3
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(HEAD + b"Content-Length: 5\r\n\r\nabcde")
        assert read_answer(connection)[0] == 503, "what has begun counts before it comes to the queue"
    for connection in waiting:
        connection.close()
    wait_until(lambda: predictors.begun == 0, what="none to be left")


def test_pipelined_requests_are_answered_in_order(service: tuple[tuple[str, int], Predictors]) -> None:
    address, predictors = service
    whole: Any = HEAD + b"Content-Length: %d\r\n\r\n" % len(SOUND) + SOUND
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(whole + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + whole)
        reader = connection.makefile("rb")
        statuses = []
        for _ in range(3):
            statuses.append(int(reader.readline().split()[1]))
            length = 0
            while (line := reader.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            reader.read(length)
    assert statuses == [200, 200, 200]
    wait_until(lambda: predictors.begun == 0, what="none to be left")
