"""Whose rows are seen: one rule, laid under every query, so that no query has to remember it.

A request is answered in the view of its caller. Whatever it asks the database for, rows of other owners are not there: the answer
is that for an absent id, without a place that has to make it so. What a worker does for a job is done in no view; it sees all.
"""

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, NamedTuple

from sqlalchemy.orm import Mapped, ORMExecuteState, mapped_column, with_loader_criteria
from sqlalchemy.types import String

from worker.bound import bound

NO_OWNER = ""  # of what was made before there were keys, on an open service, or by a key without an owner
ALL_OWNERS: dict[str, Any] = {"all_owners": True}  # execution options of a query that has to count what its caller may not see


class View(NamedTuple):
    """What one caller sees, and whose is what it makes."""

    owner: str = NO_OWNER
    sees_all: bool = True


EVERYTHING = View()
_view: ContextVar[View] = ContextVar("view", default=EVERYTHING)


def current_view() -> View:
    """Return the view in which this task or thread works."""
    return _view.get()


def current_owner() -> str:
    """Return whose a row is that is made now."""
    return _view.get().owner


def seen_by(view: View) -> AbstractContextManager[None]:
    """Work in a view until the block ends; threads and tasks that are started meanwhile do too."""
    return bound(_view, view)


class Owned:
    """A column for tables whose rows are somebody's."""

    owned_by: Mapped[str] = mapped_column(String(100), default=current_owner, index=True, sort_order=1)


def narrow(state: ORMExecuteState) -> None:
    """Leave rows of other owners out of a statement. For the event `do_orm_execute` of every session."""
    view = _view.get()
    if view.sees_all or state.is_column_load or state.execution_options.get("all_owners"):
        return
    owner = view.owner
    state.statement = state.statement.options(with_loader_criteria(Owned, lambda table: table.owned_by == owner, include_aliases=True))
