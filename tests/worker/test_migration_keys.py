"""The step from no keys to keys and owners, and back, with rows in the tables: none is lost, and what refers to another still does."""

from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, inspect, text

from worker.database import get_engine
from worker.migrate import alembic_config
from worker.settings import Settings

OWNED = ("datasets", "jobs", "models")
ROWS: dict[str, dict[str, Any]] = {
    "datasets": {"id": "ds_1", "name": "a", "status": "ready", "upload_format": "zip", "sha256": "0", "size_bytes": 1, "summary": "{}"},
    "jobs": {
        "id": "job_1", "type": "finetune", "queue": "train", "state": "queued", "dataset_id": "ds_1", "spec": "{}", "metadata": "{}",
        "token": 0, "failures": 0, "ran_seconds": 0.0, "progress": "{}", "metrics": "{}", "checkpoints": "[]",
    },
    "events": {"id": 1, "job_id": "job_1", "level": "info", "type": "status", "message": "x", "data": "{}"},
    "models": {"id": "mdl_1", "modality": "audio", "manifest": "{}", "evaluation": "{}", "blob": "b", "sha256": "0", "size_bytes": 1},
    "aliases": {"name": "digits", "model_id": "mdl_1"},
}  # fmt: skip


def go(revision: str, *, up: bool) -> None:
    with get_engine().connect() as connection:
        (command.upgrade if up else command.downgrade)(alembic_config(connection), revision)
        connection.commit()


def insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    row = row | {"updated_at" if table == "aliases" else "created_at": 1.0}
    names = ", ".join(f'"{name}"' for name in row)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"), row)


@pytest.fixture
def before(settings: Settings) -> None:
    """The tables as they were before there were owners, with a row in each."""
    go("0002", up=False)
    with get_engine().begin() as connection:
        for table, row in ROWS.items():
            insert(connection, table, row)


def rows_of(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(text(query)).all()]


def test_up_gives_all_rows_to_nobody(before: None) -> None:
    go("0003", up=True)
    with get_engine().connect() as connection:
        for table in OWNED:
            assert rows_of(connection, f"SELECT id, owned_by FROM {table}") == [(ROWS[table]["id"], "")]
        assert rows_of(connection, "SELECT owned_by, name, model_id FROM aliases") == [("", "digits", "mdl_1")]
        assert rows_of(connection, "SELECT job_id FROM events") == [("job_1",)]
        assert rows_of(connection, "PRAGMA foreign_key_check") == []


def test_down_keeps_all_rows_and_one_alias_of_each_name(before: None) -> None:
    go("0003", up=True)
    with get_engine().begin() as connection:
        for owner in ("bob", "ann"):
            insert(connection, "models", ROWS["models"] | {"id": f"mdl_{owner}", "owned_by": owner})
            for name in ("digits", "theirs"):
                insert(connection, "aliases", {"owned_by": owner, "name": name, "model_id": f"mdl_{owner}"})
    go("0002", up=False)
    with get_engine().connect() as connection:
        assert not {"keys", "audit"} & set(inspect(connection).get_table_names())
        assert not any(column["name"] == "owned_by" for table in (*OWNED, "aliases") for column in inspect(connection).get_columns(table))
        assert rows_of(connection, "SELECT name, model_id FROM aliases ORDER BY name") == [("digits", "mdl_1"), ("theirs", "mdl_ann")]
        assert [rows_of(connection, f"SELECT count(*) FROM {table}") for table in OWNED] == [[(1,)], [(1,)], [(3,)]]
        assert rows_of(connection, "PRAGMA foreign_key_check") == []
    go("0003", up=True)
