"""The rule under every query: rows of other owners are not there, whatever is asked, and whoever forgot about it."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from tests.rig import add_dataset, add_job
from worker.database import Dataset, Job, read, write
from worker.owners import ALL_OWNERS, EVERYTHING, View, current_view, seen_by
from worker.settings import Settings

ANN, BOB = View("ann", sees_all=False), View("bob", sees_all=False)
Other = aliased(Dataset)


@pytest.fixture
def hers(settings: Settings) -> str:
    with seen_by(ANN):
        return add_dataset()


QUERIES: dict[str, Callable[[Session, str], object]] = {
    "get": lambda session, thing: session.get(Dataset, thing),
    "get for update": lambda session, thing: session.get(Dataset, thing, with_for_update=True),
    "entity": lambda session, thing: session.scalar(select(Dataset).where(Dataset.id == thing)),
    "column": lambda session, thing: session.scalar(select(Dataset.id).where(Dataset.id == thing)),
    "count": lambda session, _: session.scalar(select(func.count()).select_from(Dataset)),
    "sum": lambda session, _: session.scalar(select(func.sum(Dataset.size_bytes))),
    "alias": lambda session, thing: session.scalar(select(Other.id).where(Other.id == thing)),
    "subquery": lambda session, thing: session.scalar(select(select(Dataset.id).where(Dataset.id == thing).scalar_subquery())),
    "membership": lambda session, _: session.scalar(select(Job.id).where(Job.dataset_id.in_(select(Dataset.id)))),
    "existence": lambda session, _: session.scalar(select(Job.id).where(exists().where(Dataset.id == Job.dataset_id))),
    "join": lambda session, _: session.scalar(select(Job.id).join(Dataset, Dataset.id == Job.dataset_id)),
    "update": lambda session, thing: session.scalar(update(Dataset).where(Dataset.id == thing).values(name="x").returning(Dataset.id)),
    "delete": lambda session, thing: session.scalar(delete(Dataset).where(Dataset.id == thing).returning(Dataset.id)),
}


@pytest.mark.parametrize("name", QUERIES)
def test_no_kind_of_query_finds_what_is_anothers(hers: str, name: str) -> None:
    with seen_by(BOB):
        if name in ("membership", "existence", "join"):
            with write() as session:  # a job of Bob's that somehow names her dataset
                session.add(Job(id="job_1", type="finetune", queue="train", state="queued", dataset_id=hers, spec={}, created_at=0.0))
        with write() as session:
            assert not QUERIES[name](session, hers)
    with seen_by(ANN), read() as session:
        assert session.get_one(Dataset, hers).name == "tones"


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in ("membership", "existence", "join")])
@pytest.mark.parametrize("view", [ANN, EVERYTHING, View("bob", sees_all=True)])
def test_every_kind_finds_what_is_seen(hers: str, name: str, view: View) -> None:
    with seen_by(view), write() as session:
        assert QUERIES[name](session, hers)


def test_a_query_may_say_that_it_counts_what_is_not_seen(hers: str) -> None:
    with seen_by(BOB), read() as session:
        assert session.scalar(select(func.count()).select_from(Dataset), execution_options=ALL_OWNERS) == 1
        assert session.scalar(select(func.count()).select_from(Dataset)) == 0, "and no other one does"


def test_rows_belong_to_who_makes_them(settings: Settings) -> None:
    for view in (ANN, BOB, EVERYTHING):
        with seen_by(view):
            add_job()
    with read() as session:
        owners = [session.scalars(select(table.owned_by).order_by(table.id)).all() for table in (Dataset, Job)]
    assert owners == [["ann", "bob", ""]] * 2


def test_threads_and_tasks_see_what_their_request_sees() -> None:
    async def request(view: View) -> tuple[View, View, View]:
        with seen_by(view):
            await asyncio.sleep(0)
            task = asyncio.create_task(asyncio.to_thread(current_view))
            return current_view(), await asyncio.to_thread(current_view), await task

    async def both() -> list[tuple[View, View, View]]:
        return await asyncio.gather(request(ANN), request(BOB))

    assert asyncio.run(both()) == [(ANN,) * 3, (BOB,) * 3]
    assert current_view() == EVERYTHING


def test_a_view_ends_with_its_block_also_where_that_fails() -> None:
    with pytest.raises(KeyError), seen_by(ANN):
        raise KeyError
    assert current_view() == EVERYTHING
