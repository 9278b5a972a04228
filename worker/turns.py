"""One transaction after the other, where a database has several writers: what is counted or looked up stays true until the commit."""

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

MIGRATION = 0x53594E45  # "SYNE"; workers of other versions wait for the same number
QUOTAS = 0x53594E51


def take_turn(connection: Connection | Session, number: int) -> None:
    """Wait until no other transaction holds this number, and hold it until the caller's transaction is over.

    On SQLite there is nothing to wait for: a transaction that writes is alone from its beginning.
    """
    bind = connection.get_bind() if isinstance(connection, Session) else connection
    if bind.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(number)))
