"""The end of a job is told by a whole service: over HTTP and HTTPS, until it has been heard, whoever dies meanwhile, to nobody inside."""

import base64
import contextlib
import hashlib
import hmac
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.client import Client, Json
from tests.conftest import answering
from tests.receiver import HANG, Receiver, certify
from tests.service import Service, kill, wait_until

pytestmark = pytest.mark.xdist_group("service")
KEY = b"a secret of 24 bytes here"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
Start = Callable[..., Receiver]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: certify(folder, name) for name in ("trusted", "strange")}


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory, certificates: dict[str, Path]) -> Iterator[Service]:
    """A service that may tell receivers on this machine, and trusts one certificate."""
    running = Service(
        tmp_path_factory.mktemp("telling"),
        SYNESTHESIA_WEBHOOK_SECRET=SECRET,
        SYNESTHESIA_WEBHOOK_PRIVATE="true",
        SSL_CERT_FILE=str(certificates["trusted"]),
    ).start()
    try:
        yield running
    finally:
        assert running.stop() == 0


@pytest.fixture(scope="module")
def dataset(telling: Service) -> str:
    with telling.client() as client:
        made = client.generate_dataset("gratings", labels=2, items_per_label=6)
        return str(client.wait_dataset(str(made["id"]), poll_seconds=0.1)["id"])


@pytest.fixture
def receiver() -> Iterator[Start]:
    """Start receivers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(certificate: Path | None = None, *answers: int) -> Receiver:
            server = Receiver(certificate)
            server.answers += answers
            stack.enter_context(answering(server))
            return server

        yield start


def ended(client: Client, dataset: str, url: str) -> str:
    """A job that ends at once, and wants `url` to know."""
    job = client.post("/jobs", {"dataset": dataset, "webhook": {"url": url}, "name": "wörds", "hyperparameters": {"epochs": 1}})
    client.post(f"/jobs/{job['id']}/cancel", {})
    return str(job["id"])


def told(client: Client, job: str) -> Json:
    """The one message about a job's end, once it has one."""
    return wait_until(lambda: next(iter(client.get(f"/jobs/{job}/webhooks")["data"]), None), 60)


def delivered(service: Service, client: Client, job: str) -> Json:
    """The message once it has been heard; nobody waits for the next attempt."""

    def probe() -> Json | None:
        hurry(service)
        found = told(client, job)
        return found if found["status"] == "delivered" else None

    return wait_until(probe, 30)


def failed(client: Client, job: str) -> Json:
    """The message after the first attempt that came to nothing."""

    def probe() -> Json | None:
        found = told(client, job)
        return found if found["error"] else None

    return wait_until(probe, 30)


def hurry(service: Service) -> None:
    """Let the time until the next attempt, half a minute and more, have passed."""
    with contextlib.closing(sqlite3.connect(service.data_dir / "synesthesia.db", timeout=30)) as connection, connection:
        connection.execute("UPDATE webhooks SET due_at = ? WHERE status = 'pending'", (time.time() - 1,))


def check_signature(headers: dict[str, str], body: bytes) -> None:
    """As docs/client.md tells receivers to do it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


def senders(service: Service) -> list[psutil.Process]:
    """Who sends: the one process whose keeper holds the lock."""
    return [process for process in service.family() if any(file.path.endswith("keeper.lock") for file in process.open_files())]


def test_it_is_told_until_it_is_heard(telling: Service, dataset: str, receiver: Start, certificates: dict[str, Path]) -> None:
    servers = [receiver(certificate, 500, 500, 200) for certificate in (None, certificates["trusted"])]
    assert [server.url.partition(":")[0] for server in servers] == ["http", "https"]
    with telling.client() as client:
        jobs = [ended(client, dataset, server.url) for server in servers]
        for server in servers:  # the second attempt comes by itself, after five seconds
            wait_until(lambda server=server: len(server.got) == 2, 30)  # type: ignore[misc]  # bound now
        for server, job in zip(servers, jobs, strict=True):
            check_told(server, job, delivered(telling, client, job))


def check_told(server: Receiver, job: str, found: Json) -> None:
    """Three attempts, alike but for their moments, of which the last was the one."""
    assert (found["attempts"], found["answer"], found["error"], found["next_at"]) == (3, 200, None, None)
    assert [headers["webhook-id"] for headers, _ in server.got] == [found["id"]] * 3
    assert len({body for _, body in server.got}) == 1
    for headers, body in server.got:
        check_signature(headers, body)
    message = json.loads(server.got[0][1])
    assert (message["type"], message["data"]["id"], message["data"]["name"]) == ("job.cancelled", job, "wörds")


def test_who_sends_may_die_between_two_attempts_and_in_one(telling: Service, dataset: str, receiver: Start) -> None:
    server = receiver(None, 500, HANG, 200)
    with telling.client() as client:
        job = ended(client, dataset, server.url)
        assert failed(client, job)["answer"] == 500
        for attempt in (2, 3):  # the one is killed before it, the other while it waits for an answer
            victims = senders(telling)
            assert victims
            for victim in victims:
                kill(victim)
            psutil.wait_procs(victims, timeout=10)
            hurry(telling)
            wait_until(lambda attempt=attempt: len(server.got) == attempt, 60)  # type: ignore[misc]  # bound now
        found = delivered(telling, client, job)
        server.let_go.set()
    assert (found["attempts"], found["answer"]) == (3, 200)
    assert [headers["webhook-id"] for headers, _ in server.got] == [found["id"]] * 3


def test_a_certificate_that_nobody_signed_gets_nothing(
    telling: Service, dataset: str, receiver: Start, certificates: dict[str, Path]
) -> None:
    server = receiver(certificates["strange"])
    with telling.client() as client:
        found = failed(client, ended(client, dataset, server.url))
    assert "CERTIFICATE_VERIFY_FAILED" in found["error"]
    assert (found["status"], found["answer"], server.got) == ("pending", None, [])


def test_a_redirect_is_not_followed(telling: Service, dataset: str, receiver: Start) -> None:
    server = receiver(None, 302)
    with telling.client() as client:
        found = failed(client, ended(client, dataset, server.url))
    assert (found["status"], found["answer"], len(server.got)) == ("pending", 302, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_without_leave_nobody_inside_is_told(client: Client, pictures: Json, receiver: Start, host: str) -> None:
    server = receiver()
    found = failed(client, ended(client, str(pictures["id"]), server.url.replace("127.0.0.1", host)))
    assert (found["status"], found["attempts"], found["next_at"]) == ("failed", 1, None)
    assert "not public; SYNESTHESIA_WEBHOOK_PRIVATE=true" in found["error"]
    assert server.got == []
