"""Tables and sessions. SQLite (WAL) on one machine, Postgres beyond; the schema's history is in migrations/.

Times are seconds since 1970 by the database's clock (`db_now`): leases are judged by one clock only.
"""

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Engine, Float, ForeignKey, Index, Integer, String, UniqueConstraint, create_engine, event, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from worker.owners import Owned, current_owner, narrow
from worker.settings import get_settings


class db_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 by the database's clock, at the statement, not at the transaction's start."""

    type = Float()
    inherit_cache = True


@compiles(db_now, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgres_now(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())"


class Base(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSON, list[Any]: JSON}


class Dataset(Owned, Base):
    """One data set, uploaded or generated. `blob` names its packed directory once status is ready."""

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    modality: Mapped[str | None] = mapped_column(String(8))  # None: found from the files at ingest
    status: Mapped[str] = mapped_column(String(16), index=True)  # processing | ready | failed | deleted
    parent: Mapped[str | None] = mapped_column(String(48))
    upload: Mapped[str | None] = mapped_column(String(200))  # blob reference of the archive as it came, until it is read
    upload_format: Mapped[str] = mapped_column(String(8))  # zip | tar | tar.gz; formula: nothing is uploaded
    sha256: Mapped[str] = mapped_column(String(64), index=True)  # of the archive, or of the generator's config
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    blob: Mapped[str | None] = mapped_column(String(200))
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)  # labels, items, splits … as the contract (openapi.json) names them
    generator: Mapped[dict[str, Any] | None]  # models.formula.generator.FormulaConfig, for pictures by formula
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[float]


class Job(Owned, Base):
    """One piece of background work: the row is the truth, the Celery message a hint."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    type: Mapped[str] = mapped_column(String(16))  # pretrain | finetune | transferability | ingest, generate (internal, not listed)
    queue: Mapped[str] = mapped_column(String(16))  # train | data
    state: Mapped[str] = mapped_column(String(16))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    base_model_id: Mapped[str | None] = mapped_column(String(48))  # the model row behind spec.base_model, if any
    spec: Mapped[dict[str, Any]]  # models.config.JobSpec as asked
    resolved: Mapped[dict[str, Any] | None]  # the same with every auto replaced
    name: Mapped[str | None] = mapped_column(String(200))
    alias: Mapped[str | None] = mapped_column(String(63))
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    control_of: Mapped[str | None] = mapped_column(String(48), index=True)  # the job that this one is compared with, for controls
    control: Mapped[str | None] = mapped_column(String(16))  # scratch | frozen | repeat (the compared job itself with another seed)
    webhook: Mapped[str | None] = mapped_column(String(2000))  # an address that wants to know of its end

    token: Mapped[int] = mapped_column(default=0)  # fencing token: rises with every start, checked at every write
    failures: Mapped[int] = mapped_column(default=0)  # starts that count against the budget
    ran_seconds: Mapped[float] = mapped_column(default=0.0)  # of all starts together, as of the last heartbeat
    owner: Mapped[str | None] = mapped_column(String(200))  # host:pid of the supervisor
    lease_until: Mapped[float | None]
    not_before: Mapped[float | None]  # back-off after a failure
    published_at: Mapped[float | None]  # last time a message for it was sent

    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    checkpoints: Mapped[list[Any]] = mapped_column(default=list)
    model_id: Mapped[str | None] = mapped_column(String(48))
    result: Mapped[dict[str, Any] | None]  # what a job that makes no model has found out
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    __table_args__ = (Index("jobs_by_state", "state", "lease_until"), Index("jobs_by_type", "type", "id"))


class Event(Base):
    """What happened to a job, oldest first."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[float]
    level: Mapped[str] = mapped_column(String(8))  # info | warning | error
    type: Mapped[str] = mapped_column(String(16))  # status | message | metrics | checkpoint
    message: Mapped[str] = mapped_column(String(1000))
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)

    __table_args__ = (Index("events_by_job", "job_id", "id"),)


class Outbox(Base):
    """A message to be sent, written in the transaction that made it necessary: a crash leaves both or neither."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(String(48))
    queue: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]


class Webhook(Base):
    """A message about a job's end, to one address: what the keeper has to deliver, and what became of it."""

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(String(48), primary_key=True)  # the receiver's `webhook-id`
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    url: Mapped[str] = mapped_column(String(2000))
    status: Mapped[str] = mapped_column(String(16))  # pending | delivered | failed
    attempts: Mapped[int]
    due_at: Mapped[float]
    answer: Mapped[int | None]  # status of the last answer
    error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[float]
    delivered_at: Mapped[float | None]

    __table_args__ = (UniqueConstraint("job_id", "url", name="webhook_once"), Index("webhooks_due", "status", "due_at"))


class Model(Owned, Base):
    """One artifact that can be served or built on."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200), index=True)
    modality: Mapped[str] = mapped_column(String(8))
    job_id: Mapped[str | None] = mapped_column(String(48), index=True)
    dataset_id: Mapped[str | None] = mapped_column(String(48))
    base_model: Mapped[str | None] = mapped_column(String(200))
    manifest: Mapped[dict[str, Any]]  # models.config.ModelManifest
    evaluation: Mapped[dict[str, Any]] = mapped_column(default=dict)
    predictions: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)  # models.verdict.Answers: an entry an item, read by it alone
    blob: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))  # of model.safetensors
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float]
    deleted_at: Mapped[float | None]


class Alias(Owned, Base):
    """A name that points at a model and can be moved. Each owner has names of its own."""

    __tablename__ = "aliases"
    owned_by: Mapped[str] = mapped_column(String(100), primary_key=True, default=current_owner)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    updated_at: Mapped[float]


class Idempotency(Base):
    """An answer kept so that a repeated POST gets it again."""

    __tablename__ = "idempotency"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    scope: Mapped[str] = mapped_column(String(100))  # caller and route
    key: Mapped[str] = mapped_column(String(200))
    fingerprint: Mapped[str] = mapped_column(String(64))  # sha256 of what was asked
    status: Mapped[int | None]  # None: still in progress
    body: Mapped[dict[str, Any] | None]
    location: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[float]

    __table_args__ = (UniqueConstraint("scope", "key", name="idempotency_key"),)


class Key(Base):
    """A key that lets a caller in. Of its text only the hash is kept."""

    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(200))
    scope: Mapped[str] = mapped_column(String(8))  # read | write | admin
    owner: Mapped[str] = mapped_column(String(100))  # whose rows it sees and makes; empty: those of nobody
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]
    last_used_at: Mapped[float | None]  # to the minute


class Audit(Base):
    """Who changed what, or was not let to. Rows are added and never changed."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    created_at: Mapped[float]
    key_id: Mapped[str] = mapped_column(String(48), index=True)
    request_id: Mapped[str] = mapped_column(String(128))
    action: Mapped[str] = mapped_column(String(200))  # method and address of a request, or a command
    object_id: Mapped[str | None] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))  # done | refused


def new_id(prefix: str) -> str:
    """Return a sortable id: 48 bits of milliseconds and 52 random bits, both in base 32 (Crockford's alphabet, lower case)."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    number = (time.time_ns() // 1_000_000) << 52 | int.from_bytes(os.urandom(7)) >> 4
    return f"{prefix}_" + "".join(alphabet[number >> shift & 31] for shift in range(95, -1, -5))


@functools.cache
def get_engine() -> Engine:
    """Return the process's engine. Not to be used across fork: call `get_engine.cache_clear()` in the child."""
    url = get_settings().resolved_database_url
    if not url.startswith("sqlite"):
        # libpq waits without end by default: for a server that accepts and says nothing, and for one behind a dead connection.
        patience = {"connect_timeout": 10, "tcp_user_timeout": 30_000}  # seconds, milliseconds
        return create_engine(url, pool_pre_ping=True, pool_recycle=1800, connect_args=patience)
    engine = create_engine(url, connect_args={"timeout": 10.0, "check_same_thread": False})
    event.listen(engine, "connect", _configure_sqlite)
    # pysqlite begins a transaction at the first write, as a deferred one: a read before it makes SQLITE_BUSY immediate
    # whatever the timeout. Every transaction here says BEGIN IMMEDIATE instead.
    event.listen(
        engine, "begin", lambda connection: connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))
    )
    return engine


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "busy_timeout=10000", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextlib.contextmanager
def write() -> Iterator[Session]:
    """One transaction: commits at the end, rolls back on an exception. Never held across file or network work."""
    with Session(get_engine(), expire_on_commit=False) as session, session.begin():
        event.listen(session, "do_orm_execute", narrow)
        yield session


@contextlib.contextmanager
def read() -> Iterator[Session]:
    """One consistent view, without taking the writer's place."""
    with (
        get_engine().connect().execution_options(begin="BEGIN DEFERRED") as connection,
        Session(connection, expire_on_commit=False) as session,
    ):
        event.listen(session, "do_orm_execute", narrow)
        yield session


def now(session: Session) -> float:
    """Seconds since 1970 by the database's clock."""
    return float(session.execute(select(db_now())).scalar_one())
