"""Aliases: names that point at models and can be moved. Also what a name means, be it an alias or an id.

Each owner has names of its own, `default` among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from worker.audit import note
from worker.database import Alias, Model, db_now, now, read, write
from worker.errors import GoneError, NotFoundError
from worker.owners import ALL_OWNERS, current_owner
from worker.pages import rfc3339

DEFAULT_ALIAS = "default"


@dataclass(frozen=True)
class Located:
    """Where a model's artifact lies, and what it works on."""

    model_id: str
    modality: str
    blob: str


def resolve(session: Session, name: str) -> Model:
    """Return the model behind an id or alias. Raises NotFoundError, GoneError."""
    alias = _find(session, name)
    model = session.get(Model, alias.model_id if alias else name)
    if model is None:
        raise _absent(name)
    if model.deleted_at is not None:
        raise _gone(model.id)
    return model


def locate(name: str) -> Located:
    """Return where the model behind an id or alias lies: what serving asks for each second, so no more is read than that.

    Raises NotFoundError, GoneError.
    """
    with read() as session:
        alias = _find(session, name)
        model_id = alias.model_id if alias else name
        columns = select(Model.id, Model.modality, Model.blob, Model.deleted_at).where(Model.id == model_id)
        found = session.execute(columns).one_or_none()
    if found is None:
        raise _absent(name)
    if found.deleted_at is not None:
        raise _gone(found.id)
    return Located(found.id, found.modality, found.blob)


def _find(session: Session, name: str) -> Alias | None:
    """Return the alias that `name` means to the caller: one of its own, else, to who sees all, that of the first owner who has one."""
    return session.scalar(select(Alias).where(Alias.name == name).order_by(Alias.owned_by != current_owner(), Alias.owned_by).limit(1))


def _absent(name: str) -> NotFoundError:
    if name == DEFAULT_ALIAS:
        return NotFoundError(
            "there is no model to predict with yet", code="no_default_model", hint="a fine-tune that succeeds becomes the alias 'default'"
        )
    return NotFoundError(f"there is no model or alias {name!r}", code="model_not_found")


def _gone(model_id: str) -> GoneError:
    return GoneError(f"model {model_id} has been deleted", code="model_deleted")


def aliases_of(session: Session, ids: Sequence[str]) -> dict[str, list[str]]:
    """Return model → the names that point at it, for those of `ids` that have any."""
    found: dict[str, list[str]] = {}
    for alias in session.scalars(select(Alias).where(Alias.model_id.in_(ids)).order_by(Alias.name)):
        found.setdefault(alias.model_id, []).append(alias.name)
    return found


def is_named(session: Session, model_id: str) -> bool:
    """Whether any alias, whoever's it is, points at a model."""
    return session.scalar(select(Alias.name).where(Alias.model_id == model_id).limit(1), execution_options=ALL_OWNERS) is not None


def point_alias(session: Session, name: str, model_id: str, *, owner: str | None = None) -> None:
    """Let alias `name` of `owner`, without one the caller's, point at a model, in the caller's transaction."""
    owner = current_owner() if owner is None else owner
    mine = update(Alias).where(Alias.name == name, Alias.owned_by == owner)
    moved = session.execute(mine.values(model_id=model_id, updated_at=db_now()).returning(Alias.name)).first()
    if moved is None:
        session.add(Alias(owned_by=owner, name=name, model_id=model_id, updated_at=now(session)))
        session.flush()


def take_default(session: Session, model_id: str, *, owner: str | None = None) -> None:
    """Let the alias `default` of `owner`, without one the caller's, point at a model, unless it already points somewhere."""
    owner = current_owner() if owner is None else owner
    if session.get(Alias, (owner, DEFAULT_ALIAS)) is None:
        point_alias(session, DEFAULT_ALIAS, model_id, owner=owner)


def move_aliases(session: Session, old: str, new: str) -> list[str]:
    """Let every alias of model `old`, whoever's it is, point at model `new`, in the caller's transaction; return the aliases."""
    moved = update(Alias).where(Alias.model_id == old).values(model_id=new, updated_at=db_now()).returning(Alias.name)
    return sorted(session.scalars(moved, execution_options=ALL_OWNERS))


def set_alias(name: str, model: str) -> dict[str, Any]:
    """Move an alias; moving it back is the rollback. Raises NotFoundError, GoneError."""
    with write() as session:
        target = resolve(session, model)
        point_alias(session, name, target.id)
        note(session, name)
    return get_alias(name)


def get_alias(name: str) -> dict[str, Any]:
    """Return one alias. Raises NotFoundError."""
    with read() as session:
        return _alias_json(_existing(session, name))


def list_aliases() -> list[dict[str, Any]]:
    """Return all aliases by name."""
    with read() as session:
        return [_alias_json(alias) for alias in session.scalars(select(Alias).order_by(Alias.name)).all()]


def delete_alias(name: str) -> None:
    """Remove an alias; its model stays. Raises NotFoundError."""
    with write() as session:
        session.delete(_existing(session, name))
        note(session, name)


def _existing(session: Session, name: str) -> Alias:
    alias = _find(session, name)
    if alias is None:
        raise NotFoundError(f"there is no alias {name!r}", code="alias_not_found")
    return alias


def _alias_json(alias: Alias) -> dict[str, Any]:
    return {"name": alias.name, "object": "alias", "model": alias.model_id, "updated_at": rfc3339(alias.updated_at)}
