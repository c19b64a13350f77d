"""The sandboxes' memory: on the disk before anyone is answered, in groups."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, suppress

import pytest

from orderplane.dev.sandbox.store import Store


@asynccontextmanager
async def running(store):
    writer = asyncio.create_task(store.run())
    try:
        yield writer
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError, sqlite3.Error):
            await writer


def on_disk(path):
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT id, body FROM objects ORDER BY seq").fetchall()
    database.close()
    return [(id_, body) for id_, body in rows]


async def test_settled_means_on_the_disk(tmp_path):
    path = tmp_path / "s.sqlite"
    store = Store(path)
    table = store.table("thing", dict)
    async with running(store):
        table.put("a", {"n": 1})
        assert on_disk(path) == []
        await store.wait_written()
        assert on_disk(path) == [("a", b'{"n":1}')]
        table.drop("a")
        await store.wait_written()
        assert on_disk(path) == []
        await store.wait_written()
    store.close()


async def test_changes_that_come_together_are_one_commit(tmp_path, monkeypatch):
    store = Store(tmp_path / "s.sqlite")
    table = store.table("thing", dict)
    commits = []
    commit = store._commit
    monkeypatch.setattr(store, "_commit", lambda changes: (commits.append(len(changes)), commit(changes)))

    async def one(n):
        table.put(str(n), {"n": n})
        await store.wait_written()

    async with running(store):
        await asyncio.gather(*(one(n) for n in range(100)))
    assert sum(commits) == 100
    assert len(commits) <= 2
    store.close()


async def test_a_reader_waits_for_what_it_has_seen(tmp_path, monkeypatch):
    path = tmp_path / "s.sqlite"
    store = Store(path)
    table = store.table("thing", dict)
    async with running(store):
        table.put("a", {"n": 1})
        writer = asyncio.create_task(store.wait_written())
        await asyncio.sleep(0)
        assert table.get("a") == {"n": 1}
        await store.wait_written()
        assert on_disk(path) == [("a", b'{"n":1}')]
        await writer
    store.close()


async def test_order_and_content_come_back(tmp_path):
    path = tmp_path / "s.sqlite"
    store = Store(path)
    table = store.table("thing", dict)
    for n in range(5):
        table.put(str(n), {"n": n})
    table.put("1", {"n": 10})
    table.drop("3")
    store.close()
    again = Store(path)
    assert list(again.table("thing", dict).items()) == [
        ("0", {"n": 0}), ("1", {"n": 10}), ("2", {"n": 2}), ("4", {"n": 4}),
    ]  # fmt: skip
    again.close()


async def test_a_disk_that_refuses_stops_the_writer_and_fails_its_waiters(tmp_path, monkeypatch):
    store = Store(tmp_path / "s.sqlite")
    table = store.table("thing", dict)
    commit = store._commit

    def refuse(_):
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(store, "_commit", refuse)
    async with running(store) as writer:
        table.put("a", {})
        with pytest.raises(sqlite3.OperationalError):
            await store.wait_written()
        with pytest.raises(sqlite3.OperationalError):
            await writer
    monkeypatch.setattr(store, "_commit", commit)
    store.close()


def test_pages_go_from_new_to_old(tmp_path):
    store = Store(tmp_path / "s.sqlite")
    table = store.table("thing", dict)
    for n in range(7):
        table.put(str(n), {"n": n})
    assert table.page(3) == ([{"n": 6}, {"n": 5}, {"n": 4}], True)
    assert table.page(3, "4") == ([{"n": 3}, {"n": 2}, {"n": 1}], True)
    assert table.page(3, "1") == ([{"n": 0}], False)
    assert table.page(2, None, lambda row: row["n"] % 2 == 0) == ([{"n": 6}, {"n": 4}], True)
    with pytest.raises(KeyError):
        table.page(3, "unknown")
    store.close()
