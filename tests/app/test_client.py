"""The client against a server that misbehaves on purpose."""

import asyncio
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.async_client import AsyncClient
from app.client import Client, RefusedError, UnreachableError

Handler = http.server.BaseHTTPRequestHandler
Answers = Callable[[Handler], None]


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of `script`; keeps what was asked."""

    daemon_threads = True

    def __init__(self, script: list[Answers], port: int = 0) -> None:
        self.script = script
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", port), _Scripted)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Scripted(Handler):
    server: Server

    def do_GET(self) -> None:  # noqa: N802 - the library's names
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.server.script.pop(0)(self)

    do_POST = do_GET  # noqa: N815 - see above

    def log_message(self, *_: Any) -> None:
        pass


def answer(body: object, status: int = 200, kind: str = "application/json", **headers: str) -> Answers:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def send(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return send


def later(seconds: str, status: int = 503) -> Answers:
    return answer({"title": "Overloaded", "status": status}, status, "application/problem+json", Retry_After=seconds)


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def events(*rows: dict[str, Any], promised: int = 0) -> Answers:
    """An event stream, cut short where it promises more bytes than come."""
    text = "retry: 1\n\n: comment\n\n" + "".join(f"id: {row['id']}\nevent: {row['type']}\ndata: {json.dumps(row)}\n\n" for row in rows)

    def send(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", str(len(text) + promised))
        handler.end_headers()
        handler.wfile.write(text.encode())
        handler.close_connection = True

    return send


@pytest.fixture
def script() -> list[Answers]:
    return []


@pytest.fixture
def server(script: list[Answers]) -> Iterator[Server]:
    server = Server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url + "/", "the-key") as client:
        yield client


def test_the_key_and_the_wanted_type_are_sent(client: Client, server: Server, script: list[Answers]) -> None:
    script.append(answer({"id": "job_1"}))
    assert client.get("/jobs/job_1", status=None, limit=3) == {"id": "job_1"}
    _, path, headers, _ = server.asked[0]
    assert (path, headers["authorization"], headers["accept"]) == ("/jobs/job_1?limit=3", "Bearer the-key", "application/json")


def test_a_problem_is_raised_with_all_it_says(client: Client, script: list[Answers]) -> None:
    problem = {"title": "No such job", "detail": "there is no job 'x'", "status": 404, "code": "job_not_found"}
    script.append(answer(problem, 404, "application/problem+json"))
    with pytest.raises(RefusedError, match="No such job: there is no job 'x'") as caught:
        client.get("/jobs/x")
    assert (caught.value.status, caught.value.problem) == (404, problem)


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[1]", b"\xff"])
def test_a_refusal_that_is_no_problem_is_still_told(client: Client, script: list[Answers], body: bytes) -> None:
    script.append(answer(body, 502, "text/html"))
    with pytest.raises(RefusedError) as caught:
        client.get("/jobs")
    assert (caught.value.status, caught.value.problem["title"]) == (502, "Bad Gateway")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(UnreachableError, match=f"no answer from http://127.0.0.1:{port}"):
        client.get("/jobs")


@pytest.mark.parametrize("url", ["http://[::1", "nonsense", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UnreachableError), Client(url) as client:
        client.get("/jobs")


def test_a_broken_connection_is_tried_again_with_the_same_key(client: Client, server: Server, script: list[Answers]) -> None:
    script += [hang_up, hang_up, answer({"id": "job_1"}, 202)]
    assert client.post("/jobs", {"dataset": "ds_1"}) == {"id": "job_1"}
    assert len({headers["idempotency-key"] for _, _, headers, _ in server.asked}) == 1
    assert [body for *_, body in server.asked] == [b'{"dataset":"ds_1"}'] * 3
    script.append(answer({}))
    client.post("/jobs", {"dataset": "ds_1"})
    assert server.asked[3][2]["idempotency-key"] != server.asked[0][2]["idempotency-key"]


def test_patience_ends(client: Client, server: Server, script: list[Answers]) -> None:
    script += [hang_up] * 9
    with pytest.raises(UnreachableError):
        client.get("/jobs")
    assert len(server.asked) == 4


def page(rows: range, *, more: bool) -> Answers:
    return answer({"data": [{"id": f"x{row}"} for row in rows], "last_id": f"x{rows[-1]}", "has_more": more})


def test_lists_are_read_page_by_page(client: Client, server: Server, script: list[Answers]) -> None:
    script += [page(range(100), more=True), page(range(100, 150), more=False)]
    assert [row["id"] for row in client.pages("/jobs", status="failed")] == [f"x{row}" for row in range(150)]
    assert [path for _, path, *_ in server.asked] == ["/jobs?limit=100&status=failed", "/jobs?limit=100&after=x99&status=failed"]


def test_no_more_rows_are_read_than_wanted(client: Client, server: Server, script: list[Answers]) -> None:
    script += [page(range(100), more=True), page(range(100, 120), more=True)]
    assert len(list(client.pages("/jobs", limit=120))) == 120
    assert [path for _, path, *_ in server.asked] == ["/jobs?limit=100", "/jobs?limit=20&after=x99"]


def test_an_upload_is_sent_in_pieces(client: Client, server: Server, script: list[Answers], tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK\x03\x04" + b"x" * 600_000)
    script.append(answer({"id": "ds_1"}, 202))
    sizes: list[int] = []
    assert client.upload_dataset(archive, on_bytes=sizes.append, name="a", parent=None) == {"id": "ds_1"}
    _, path, headers, body = server.asked[0]
    assert (path, headers["content-type"], body) == ("/datasets?name=a", "application/zip", archive.read_bytes())
    assert (sum(sizes), len(sizes)) == (600_004, 3)
    (tmp_path / "b.zip").write_bytes(b"x")
    with pytest.raises(ValueError, match="neither a zip"):
        client.upload_dataset(tmp_path / "b.zip")


def test_pictures_by_formula_are_asked_for_once(client: Client, server: Server, script: list[Answers]) -> None:
    script += [hang_up, answer({"id": "ds_1"}, 202)]
    assert client.generate_dataset("fractals", labels=5, name=None) == {"id": "ds_1"}
    (_, path, first, body), (_, _, second, again) = server.asked
    assert (path, json.loads(body), body) == ("/datasets", {"generator": "fractals", "labels": 5}, again)
    assert first["idempotency-key"] == second["idempotency-key"]


def test_a_download_appears_whole_or_not_at_all(client: Client, script: list[Answers], tmp_path: Path) -> None:
    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 500)
        handler.close_connection = True

    script += [answer(b"x" * 500_000, kind="application/x-tar"), cut, answer({"title": "No such model"}, 404)]
    target = tmp_path / "m.tar"
    assert client.download("/models/m/artifact", target) == 500_000
    target.unlink()
    with pytest.raises(UnreachableError):
        client.download("/models/m/artifact", target)
    with pytest.raises(RefusedError):
        client.download("/models/m/artifact", target)
    assert not target.exists()


def event(number: int, status: str | None = None) -> dict[str, Any]:
    return {"id": f"evt_{number}", "type": "status" if status else "message", "message": "x", "data": {"status": status} if status else {}}


def test_a_broken_stream_goes_on_where_it_broke(client: Client, server: Server, script: list[Answers]) -> None:
    script += [
        events(event(1), event(2), promised=100),
        hang_up,
        events(event(3), event(4, "running")),  # ends early without a word, as a restarting service's does
        answer({"status": "running"}),
        events(event(5, "succeeded"), event(6)),
    ]
    assert [found["id"] for found in client.events("job_1")] == [f"evt_{number}" for number in (1, 2, 3, 4, 5)]
    streams = [headers.get("last-event-id") for _, path, headers, _ in server.asked if path.endswith("/events")]
    assert streams == [None, "evt_2", "evt_2", "evt_4"]


def test_a_stream_of_a_job_that_has_ended_ends(client: Client, script: list[Answers]) -> None:
    script += [events(), answer({"status": "failed"})]
    assert list(client.events("job_1", after="evt_9")) == []


def test_a_refused_stream_is_raised(client: Client, script: list[Answers]) -> None:
    script.append(answer({"title": "No such job"}, 404))
    with pytest.raises(RefusedError):
        list(client.events("job_1"))


def test_a_stream_is_not_waited_for_for_ever(client: Client, script: list[Answers], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client._RETRY_FOR_SECONDS", 0.1)
    script += [hang_up] * 20
    with pytest.raises(UnreachableError):
        list(client.events("job_1"))


def test_waiting_for_a_dataset(client: Client, script: list[Answers]) -> None:
    script += [answer({"status": "processing"}), hang_up, answer({"status": "processing"}), answer({"status": "failed"})]
    seen: list[str] = []
    found = client.wait_dataset("ds_1", on_change=lambda dataset: seen.append(dataset["status"]), poll_seconds=0.001)
    assert (found["status"], seen) == ("failed", ["processing", "processing", "failed"])


def test_a_sound_is_sent_as_a_form(client: Client, server: Server, script: list[Answers], tmp_path: Path) -> None:
    sound = tmp_path / "ä.wav"
    sound.write_bytes(b"RIFF")
    script.append(answer({"label": "yes"}))
    assert client.predict(sound, model=None, top_k=3) == {"label": "yes"}
    _, path, headers, body = server.asked[0]
    assert path == "/predict?top_k=3"
    assert headers["content-type"].startswith("multipart/form-data")
    assert b'name="file"' in body
    assert b"RIFF" in body


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_said_so(client: Client, server: Server, script: list[Answers], status: int) -> None:
    script += [later("0", status), later("0", status), answer({"id": "job_1"}, 202)]
    assert client.post("/jobs", {"dataset": "ds_1"}) == {"id": "job_1"}
    assert len({headers["idempotency-key"] for _, _, headers, _ in server.asked}) == 1


@pytest.mark.parametrize("refusal", [later("31"), later("0", 507), answer({"title": "x"}, 503), later("Fri, 31 Dec 1999 23:59:59 GMT")])
def test_what_would_take_too_long_is_raised(client: Client, server: Server, script: list[Answers], refusal: Answers) -> None:
    script.append(refusal)
    with pytest.raises(RefusedError):
        client.get("/jobs")
    assert len(server.asked) == 1


def test_waiting_for_a_busy_service_is_bounded(server: Server, script: list[Answers]) -> None:
    script += [later("1")] * 3
    with Client(server.url, busy_seconds=1.5) as client, pytest.raises(RefusedError) as caught:
        client.get("/jobs")
    assert (caught.value.retry_after, len(server.asked)) == (1.0, 2)


def test_a_service_that_starts_is_waited_for(script: list[Answers]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    script.append(answer({"id": "job_1"}))
    started: list[Server] = []

    def start() -> None:
        started.append(Server(script, port))
        started[0].serve_forever(poll_interval=0.01)

    timer = threading.Timer(0.6, start)
    timer.start()
    try:
        with Client(f"http://127.0.0.1:{port}", connect_seconds=10) as client:
            assert client.get("/jobs/job_1") == {"id": "job_1"}
    finally:
        started[0].shutdown()
        started[0].server_close()
        timer.join()


def test_an_upload_that_broke_is_sent_again_and_counted_once(client: Client, server: Server, script: list[Answers], tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK\x03\x04" + b"x" * 600_000)
    script += [hang_up, later("0"), answer({"id": "ds_1"}, 202)]
    sizes: list[int] = []
    assert client.upload_dataset(archive, on_bytes=sizes.append, name="a") == {"id": "ds_1"}
    assert sum(sizes) == 600_004
    assert min(sizes) < 0
    assert len({headers["idempotency-key"] for _, _, headers, _ in server.asked}) == 1
    assert server.asked[-1][3] == archive.read_bytes()


def test_waiting_for_a_job(client: Client, script: list[Answers]) -> None:
    script += [answer({"status": "running"}), hang_up, answer({"status": "failed"})]
    seen: list[str] = []
    assert client.wait("job_1", on_change=lambda job: seen.append(job["status"]))["status"] == "failed"
    assert seen == ["running", "failed"]
    script.append(answer({"status": "running"}))
    with pytest.raises(TimeoutError, match="still running"):
        client.wait("job_1", seconds=-1)


def test_the_same_to_be_awaited(server: Server, script: list[Answers], tmp_path: Path) -> None:
    """Each thing that the clients do by themselves, once."""
    archive, sound = tmp_path / "a.zip", tmp_path / "a.wav"
    archive.write_bytes(b"PK\x03\x04" + b"x" * 600_000)
    sound.write_bytes(b"RIFF")
    script += [
        hang_up, later("0"), answer({"id": "job_1"}, 202),
        hang_up, answer({"id": "ds_1"}, 202),
        answer({"status": "processing"}), answer({"status": "ready"}),
        page(range(100), more=True), page(range(100, 120), more=False),
        answer({"label": "yes"}),
        events(event(1), event(2), promised=100), events(event(3, "succeeded")),
        answer({"status": "running"}), answer({"status": "succeeded"}),
        answer(b"x" * 500_000, kind="application/x-tar"),
        answer({"title": "No such job"}, 404),
    ]  # fmt: skip

    async def run() -> None:
        sizes: list[int] = []
        async with AsyncClient(server.url, "the-key") as client:
            assert (await client.create_job({"dataset": "ds_1"}))["id"] == "job_1"
            assert (await client.upload_dataset(archive, on_bytes=sizes.append, name="a"))["id"] == "ds_1"
            assert (await client.wait_dataset("ds_1"))["status"] == "ready"
            assert len([row async for row in client.pages("/jobs")]) == 120
            assert (await client.predict(sound))["label"] == "yes"
            assert [found["id"] async for found in client.events("job_1")] == ["evt_1", "evt_2", "evt_3"]
            assert (await client.wait("job_1"))["status"] == "succeeded"
            assert await client.download("/models/m/artifact", tmp_path / "m.tar") == 500_000
            with pytest.raises(RefusedError):
                await client.job("job_9")
        assert sum(sizes) == 600_004

    asyncio.run(run())
    assert script == []
    assert len({headers["idempotency-key"] for _, path, headers, _ in server.asked if path == "/jobs"}) == 1
    assert server.asked[4][3] == archive.read_bytes()


def test_nobody_there_to_be_awaited() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    async def run() -> None:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            await client.job("job_1")

    with pytest.raises(UnreachableError):
        asyncio.run(run())
