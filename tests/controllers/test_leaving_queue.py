"""Orders leave behind all other work, and faster where there is no room."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key
from orderplane.crds.api_errors import Conflict
from orderplane.ledgers.errors import Transient
from orderplane.operator import leaving
from orderplane.operator.leaving import LeavingQueue

from .builders import NOW
from .test_order_rest import resting


class Leaver:
    """Takes orders out of the cluster, as `Leaving` does."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.left: list[tuple[Key, bool]] = []
        self.updated: list[Key] = []
        self.problems: list[Exception] = []

    async def leave(self, key: Key, *, is_crowded: bool) -> None:
        if self.problems:
            raise self.problems.pop()
        order = self.cluster.orders.get(key)
        assert order is not None
        self.cluster.orders.drop(order.uid, key)
        self.left.append((key, is_crowded))

    async def update(self, key: Key) -> None:
        if key[1] == "o-unreadable":
            raise ValueError("no Order")
        self.updated.append(key)


class Outdated:
    """An archive with rows that are behind."""

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)

    async def outdated_keys(self, limit: int) -> Sequence[Key]:
        found, self.keys = self.keys[:limit], self.keys[limit:]
        return found


def a_cluster(orders: int) -> Cluster:
    cluster = Cluster(object(), lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    for number in range(orders):
        document = resting("shop", number).model_dump(mode="json", by_alias=True)
        document["metadata"]["uid"] = f"uid-{number}"
        cluster.orders.store(document)
    return cluster


@asynccontextmanager
async def running(
    leaver: Leaver, *, most: int = 100, archive: Any = None, is_busy: Callable[[], bool] = lambda: False
) -> AsyncIterator[tuple[LeavingQueue, list[Key]]]:
    again: list[Key] = []
    queue = LeavingQueue(
        leaver,  # type: ignore[arg-type]
        leaver.cluster,
        archive or Outdated(),
        most=most,
        is_busy=is_busy,
        look_again=again.append,
        now=lambda: NOW,
    )
    task = asyncio.create_task(queue.run(lambda: None))
    try:
        yield queue, again
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - the fakes call nobody
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(leaving, "_RETRY_SECONDS", 0.001)


async def test_an_order_that_is_due_leaves() -> None:
    leaver = Leaver(a_cluster(3))
    async with running(leaver) as (queue, again):
        queue.add(("shop", "o-001"))
        await until(lambda: leaver.left)
        assert (leaver.left, again) == ([(("shop", "o-001"), False)], [])


async def test_while_there_are_too_many_those_at_rest_longest_leave() -> None:
    leaver = Leaver(a_cluster(30))
    async with running(leaver, most=25):
        await until(lambda: len(leaver.cluster.orders) == 25)
        await asyncio.sleep(0.05)
    assert {name for (_, name), _ in leaver.left} == {f"o-{number:03}" for number in range(5)}
    assert all(is_crowded for _, is_crowded in leaver.left)


async def test_it_waits_for_other_work_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "PATIENCE_SECONDS", 0.2)
    looks: list[int] = []

    def is_busy() -> bool:
        looks.append(len(leaver.left))
        return True

    leaver = Leaver(a_cluster(1))
    async with running(leaver, is_busy=is_busy) as (queue, _):
        queue.add(("shop", "o-000"))
        await until(lambda: leaver.left)
    assert looks == [0] * 10


@pytest.mark.parametrize(
    "problem",
    [Conflict(409, "Conflict", "x"), Transient("LedgerUnavailable", "x"), ValueError("no partition")],
    ids=lambda problem: type(problem).__name__,
)
async def test_what_fails_is_decided_anew_and_stops_nothing(problem: Exception) -> None:
    leaver = Leaver(a_cluster(2))
    leaver.problems.append(problem)
    async with running(leaver) as (queue, again):
        queue.add(("shop", "o-000"))
        await until(lambda: again)
        queue.add(("shop", "o-001"))
        await until(lambda: leaver.left)
    assert (again, leaver.left) == ([("shop", "o-000")], [(("shop", "o-001"), False)])


async def test_what_the_archive_has_is_brought_up_to_date() -> None:
    keys = [("shop", f"o-{number}") for number in range(leaving._MOST_OUTDATED + 5)]
    leaver = Leaver(a_cluster(0))
    async with running(leaver, archive=Outdated(("shop", "o-unreadable"), *keys)):
        await until(lambda: len(leaver.updated) == len(keys))
    assert leaver.updated == keys
