"""The end of a job is told once to each address, signed, again after a failure, and never to a private address unless that is allowed."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from models.config import JobSpec, WebhookConfig
from models.errors import ConfigError
from tests.conftest import answering
from tests.receiver import Receiver, certify
from tests.rig import add_dataset, change_row
from worker import posting, webhooks
from worker.database import Webhook, db_now, read, write
from worker.jobs import cancel_job, create_job
from worker.settings import Settings, get_settings
from worker.webhooks import GIVE_UP_SECONDS, deliver, list_deliveries, signed_headers

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes here").decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with answering(server):
        yield server


@pytest.fixture
def allowed(change_setting: Callable[..., Settings]) -> Settings:
    return change_setting(webhook_secret=SECRET, webhook_private="true")


def ended_job(url: str | None = None, **fields: Any) -> str:
    spec = JobSpec(dataset=add_dataset(), webhook=WebhookConfig(url=url) if url else None, **fields)
    job_id = str(create_job(spec)["id"])
    cancel_job(job_id)
    return job_id


def hurry() -> None:
    with write() as session:
        session.execute(update(Webhook).values(due_at=db_now() - 1))


def only(job_id: str) -> dict[str, Any]:
    (found,) = list_deliveries(job_id)
    return found


def test_a_job_that_ends_is_told_once_and_signed(allowed: Settings, receiver: Receiver) -> None:
    job_id = ended_job(receiver.url, name="dïgits", metadata={"team": "ivr"})
    assert only(job_id)["status"] == "pending"
    assert (deliver(allowed), deliver(allowed)) == (1, 0)
    ((headers, body),) = receiver.got
    told = json.loads(body)
    assert (told["type"], told["data"]["id"], told["data"]["name"]) == ("job.cancelled", job_id, "dïgits")
    assert told["data"]["metadata"] == {"team": "ivr"}
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = hmac.new(b"a secret of 24 bytes here", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    found = only(job_id)
    assert (found["status"], found["attempts"], found["answer"], found["id"]) == ("delivered", 1, 204, headers["webhook-id"])
    assert found["receiver"] == receiver.url.partition("/hook")[0]
    assert found["delivered_at"]
    assert found["next_at"] is None


def test_the_signature_is_that_of_the_specification() -> None:
    """The specification's own example."""
    headers = signed_headers("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_service_and_the_job_may_both_ask(change_setting: Callable[..., Settings], receiver: Receiver) -> None:
    settings = change_setting(webhook_secret="x" * 30, webhook_private="true", webhook_url=receiver.url)
    job_id = ended_job(receiver.url.replace("x=1", "x=2"))
    again = ended_job(receiver.url)
    assert deliver(settings) == 3
    assert (len(list_deliveries(job_id)), len(list_deliveries(again))) == (2, 1)


def test_nobody_is_told_of_what_nobody_asked_for(allowed: Settings) -> None:
    job_id = ended_job()
    assert list_deliveries(job_id) == []


def test_controls_end_silently(change_setting: Callable[..., Settings]) -> None:
    change_setting(webhook_secret=SECRET, webhook_url="https://example.org/")
    parent = str(create_job(JobSpec(dataset=add_dataset()))["id"])
    control = str(create_job(JobSpec(dataset=add_dataset()))["id"])
    change_row(control, control_of=parent, control="scratch")
    cancel_job(parent)
    cancel_job(control)
    assert (len(list_deliveries(parent)), list_deliveries(control)) == (1, [])


def test_a_failure_is_tried_again_later_with_the_same_id(allowed: Settings, receiver: Receiver) -> None:
    receiver.answers += [500, 302, 200]
    job_id = ended_job(receiver.url)
    deliver(allowed)
    found = only(job_id)
    assert (found["status"], found["attempts"], found["answer"], found["error"]) == ("pending", 1, 500, "the receiver answered 500")
    assert found["next_at"] > found["created_at"]
    assert deliver(allowed) == 0
    hurry()
    deliver(allowed)
    assert only(job_id)["answer"] == 302
    hurry()
    deliver(allowed)
    assert (only(job_id)["status"], only(job_id)["attempts"]) == ("delivered", 3)
    assert len(receiver.got) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1


def test_what_is_gone_is_not_tried_again(allowed: Settings, receiver: Receiver) -> None:
    receiver.answers.append(410)
    job_id = ended_job(receiver.url)
    deliver(allowed)
    assert only(job_id)["status"] == "failed"


def test_after_a_day_it_is_given_up(allowed: Settings, receiver: Receiver) -> None:
    receiver.answers += [503, 503]
    job_id = ended_job(receiver.url)
    with write() as session:
        session.execute(update(Webhook).values(created_at=db_now() - GIVE_UP_SECONDS + 60, due_at=db_now() - 1))
    deliver(allowed)
    assert only(job_id)["status"] == "pending"
    with write() as session:
        session.execute(update(Webhook).values(created_at=db_now() - GIVE_UP_SECONDS, due_at=db_now() - 1))
    deliver(allowed)
    assert only(job_id)["status"] == "failed"


def test_a_message_that_a_sender_died_with_goes_out_again(allowed: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = ended_job(receiver.url)

    def die(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "post_once", die)
        with pytest.raises(KeyboardInterrupt):
            deliver(allowed)
    assert (only(job_id)["status"], deliver(allowed)) == ("pending", 0)
    hurry()
    assert deliver(allowed) == 1
    assert only(job_id)["status"] == "delivered"


def test_what_ended_long_ago_is_forgotten(allowed: Settings, receiver: Receiver) -> None:
    kept, waiting, gone = (ended_job(receiver.url) for _ in range(3))
    for job_id in (gone, waiting):
        with write() as session:
            session.execute(update(Webhook).where(Webhook.job_id == job_id).values(created_at=db_now() - 8 * 86400))
    with write() as session:
        session.execute(update(Webhook).where(Webhook.job_id == gone).values(status="delivered"))
    webhooks.clear()
    with read() as session:
        assert set(session.scalars(select(Webhook.job_id))) == {kept, waiting}


def test_an_address_is_not_told_to_the_model(allowed: Settings, receiver: Receiver) -> None:
    from tests.rig import row

    job_id = ended_job(receiver.url)
    assert receiver.url not in json.dumps(row(job_id).spec)


def test_without_a_secret_nothing_is_promised(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no secret") as caught:
        create_job(JobSpec(dataset=add_dataset(), webhook=WebhookConfig(url="https://example.org/")))
    assert caught.value.param == "webhook"
    with pytest.raises(ValueError, match="WEBHOOK_SECRET"):
        Settings(webhook_url="https://example.org/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]",
     "[fd00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "100.64.0.1", "2130706433", "0x7f000001", "224.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_refused(change_setting: Callable[..., Settings], host: str) -> None:
    settings = change_setting(webhook_secret=SECRET)
    job_id = ended_job(f"http://{host}:9/x")
    deliver(settings)
    found = only(job_id)
    assert (found["status"], found["attempts"]) == ("failed", 1)
    assert "not public" in found["error"] or "no address" in found["error"]


def test_a_name_that_answers_differently_the_second_time_gains_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public answer first, loopback from then on: the connection goes to what was judged, or nowhere."""
    asked: list[str] = []
    reached: list[tuple[str, int]] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(address: tuple[str, int], **_: Any) -> socket.socket:
        reached.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(posting.PostError, match="no answer"):
        posting.post_once("http://rebind.example/x", b"{}", {})
    assert (asked, reached) == (["rebind.example"], [("93.184.216.34", 80)])


def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name have these addresses, which themselves are what they are: to connect asks about them too."""
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        if not host.endswith(".example"):
            return real(host, port, *more, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_where_the_first_address_takes_no_connection_the_next_is_tried(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved(monkeypatch, "127.0.0.9", "127.0.0.1")
    assert posting.post_once(f"http://two.example:{receiver.server_port}/", b"{}", {}, private=True) == 204
    resolved(monkeypatch, "127.0.0.9", "127.0.0.8")
    with pytest.raises(posting.PostError, match="no answer"):
        posting.post_once(f"http://two.example:{receiver.server_port}/", b"{}", {}, private=True)
    assert [headers["host"] for headers, _ in receiver.got] == [f"two.example:{receiver.server_port}"]


def test_a_certificate_is_checked_against_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = certify(tmp_path, "ours")
    server = Receiver(certificate)
    with answering(server):
        resolved(monkeypatch, "127.0.0.1")  # and the name is on no certificate
        with pytest.raises(posting.PostError, match="self-signed certificate") as caught:
            posting.post_once(server.url, b"{}", {}, private=True)
        assert not caught.value.final  # it may be mended within the day
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert posting.post_once(server.url, b"{}", {}, private=True) == 204
        with pytest.raises(posting.PostError, match=r"not valid for 'other\.example'"):
            posting.post_once(server.url.replace("127.0.0.1", "other.example"), b"{}", {}, private=True)
    assert len(server.got) == 1


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved(monkeypatch, "93.184.216.34", "10.0.0.8")
    with pytest.raises(posting.PostError, match=r"10\.0\.0\.8") as caught:
        posting.post_once("http://both.example/x", b"{}", {})
    assert caught.value.final


def test_a_receiver_that_drips_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(posting.PostError):
                posting.post_once(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, private=True, limit=0.4)
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("url", ["ftp://example.org/", "http://user@example.org/", "http:///x", "http://example.org:0/", "http://[::1/"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(posting.PostError) as caught:
        posting.post_once(url, b"", {}, private=True)
    assert caught.value.final


def test_the_keeper_delivers(allowed: Settings, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.service import wait_until
    from worker import keeper

    monkeypatch.setattr(keeper, "relay", lambda: 0)
    monkeypatch.setattr(keeper, "sweep", lambda _: None)
    monkeypatch.setattr(keeper, "_ANNOUNCE_SECONDS", 0.05)
    job_id = ended_job(receiver.url)
    running = keeper.Keeper(get_settings())
    running.start()
    try:
        wait_until(lambda: only(job_id)["status"] == "delivered" or None, 10)
    finally:
        running.stop()
