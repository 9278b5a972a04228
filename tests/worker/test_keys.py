"""Keys: what is kept of them, whom they let in, and what the audit log says about it."""

import hashlib
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from models.errors import ConfigError
from worker.audit import Origin, done_by, list_audit
from worker.database import Key, get_engine, read
from worker.errors import NotFoundError
from worker.keys import Caller, create_key, find_key, has_key, hash_of, list_keys, load_keys, mark_used, revoke_key
from worker.owners import View
from worker.settings import Settings


def digest_of(key: str) -> bytes:
    return hash_of(key.encode())


def test_a_key_is_long_random_and_known_by_its_beginning(settings: Settings) -> None:
    made = [create_key("read")[0] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(re.fullmatch(r"syn_[A-Za-z0-9_-]{43}", key) for key in made)


@pytest.mark.parametrize(
    ("scope", "owner", "view"),
    [
        ("read", "ann", View("ann", sees_all=False)),
        ("write", "", View("", sees_all=False)),
        ("admin", "", View("", sees_all=True)),
        ("admin", "ann", View("ann", sees_all=True)),
    ],
)
def test_its_hash_finds_who_holds_it(settings: Settings, scope: str, owner: str, view: View) -> None:
    key, row = create_key(scope, owner=owner)
    found = find_key(digest_of(key))
    assert found is not None
    assert (found.key_id, found.scope, found.view) == (row["id"], scope, view)
    assert load_keys().callers == {digest_of(key): found}


def test_another_hash_finds_nobody(settings: Settings) -> None:
    key, row = create_key("read")
    for wrong in (key[:-1], key + "x", key.upper(), "", row["id"], hashlib.sha256(key.encode()).hexdigest()):
        assert find_key(digest_of(wrong)) is None


def test_the_text_is_nowhere_in_the_database(settings: Settings) -> None:
    key, _ = create_key("admin", name="mine", owner="ann")
    get_engine().dispose()
    stored = b"".join(path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file())
    assert key.encode() not in stored
    assert key.removeprefix("syn_").encode() not in stored
    assert digest_of(key).hex().encode() in stored


def test_a_revoked_key_lets_nobody_in_and_leaves_the_service_closed(settings: Settings) -> None:
    assert not load_keys().any_ever
    key, row = create_key("read")
    assert has_key()
    first = revoke_key(row["id"])
    assert first["revoked_at"] is not None
    assert find_key(digest_of(key)) is None
    assert (load_keys().callers, load_keys().any_ever, has_key()) == ({}, True, False)
    assert revoke_key(row["id"]) == first, "the first moment stands"


def test_an_unknown_key_can_t_be_revoked(settings: Settings) -> None:
    with pytest.raises(NotFoundError):
        revoke_key("key_0")


def test_they_are_listed_without_their_hash_newest_first(settings: Settings) -> None:
    first, second = create_key("read", name="a", owner="ann")[1], create_key("admin")[1]
    revoke_key(first["id"])
    listed = list_keys()
    assert [row["id"] for row in listed] == sorted((first["id"], second["id"]), reverse=True)
    assert all("sha256" not in row for row in listed)
    by_id = {row["id"]: row for row in listed}
    assert (by_id[first["id"]]["owner"], by_id[second["id"]]["owner"]) == ("ann", None)


@pytest.mark.parametrize(
    ("scope", "name", "owner", "param"),
    [
        ("root", None, "", "scope"),
        ("", None, "", "scope"),
        ("read", "x" * 201, "", "name"),
        ("read", "a\nb", "", "name"),
        ("read", None, "x" * 101, "owner"),
        ("read", None, " ann", "owner"),
        ("read", None, "ann\x1b", "owner"),
    ],
)
def test_what_no_key_can_have(settings: Settings, scope: str, name: str | None, owner: str, param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_key(scope, name=name, owner=owner)
    assert caught.value.param == param
    assert list_keys() == []


def test_the_last_use_is_written(settings: Settings) -> None:
    used, idle = create_key("read")[1]["id"], create_key("read")[1]["id"]
    mark_used([used])
    assert {row["id"]: row["last_used_at"] is None for row in list_keys()} == {used: False, idle: True}


def test_without_a_database_there_is_no_key_and_asking_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    from tests.conftest import forget

    monkeypatch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path / "nowhere"))
    forget()
    assert not has_key()
    assert not (tmp_path / "nowhere").exists()


def test_a_database_that_is_older_than_keys_has_none(settings: Settings) -> None:
    with get_engine().connect() as connection:
        connection.execute(text("DROP TABLE keys"))
        connection.commit()
    assert not has_key()


def test_the_audit_log_tells_who_made_and_revoked_a_key(settings: Settings) -> None:
    with done_by(Origin("cli", "", "keys create")):
        key_id = create_key("read")[1]["id"]
    with done_by(Origin("cli", "", "keys revoke")):
        revoke_key(key_id)
        revoke_key(key_id)
    rows = list_audit().data
    assert [(row["key"], row["action"], row["object_id"], row["outcome"]) for row in rows] == [
        ("cli", "keys revoke", key_id, "done"),
        ("cli", "keys create", key_id, "done"),
    ]


def test_a_caller_holds_no_text_and_no_hash(settings: Settings) -> None:
    key, row = create_key("write", owner="ann")
    with read() as session:
        kept = session.get_one(Key, row["id"])
    assert vars(Caller.of(row["id"], "write", "ann")).keys() == {"key_id", "scope", "view"}
    assert key not in repr(vars(kept))
