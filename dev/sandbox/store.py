"""The state of a sandbox: dictionaries in memory, written to SQLite before a reply is sent.

A change is made in memory, between two awaits. One writer commits all changes since its last commit in one
transaction (group commit). Every reply waits for `Store.wait_written`, reads included: a client never sees
anything that a crash could still undo.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL,
    UNIQUE (kind, id)
)
"""
_UPSERT = """
INSERT INTO objects (kind, id, body) VALUES (?, ?, ?)
ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body
"""
_DELETE = "DELETE FROM objects WHERE kind = ? AND id = ?"

_Changes = dict[tuple[str, str], Any]


class Store:
    """One SQLite file. Raises sqlite3.Error if it cannot be opened.

    All of its content is kept in memory, so it is for demos and tests only.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(_SCHEMA)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._changes: _Changes = {}
        self._has_changes = asyncio.Event()
        self._next: asyncio.Future[None] | None = None
        self._current: asyncio.Future[None] | None = None

    def table(self, kind: str, read: Callable[[dict[str, Any]], T]) -> "Table[T]":
        """The objects of one kind, oldest first; `read` makes one from its JSON document."""
        rows = self._database.execute("SELECT id, body FROM objects WHERE kind = ? ORDER BY seq", (kind,))
        return Table(self, kind, {id_: read(orjson.loads(body)) for id_, body in rows})

    def change(self, kind: str, id_: str, value: Any | None) -> None:
        """Write this with the next commit; None deletes it."""
        self._changes[kind, id_] = value
        self._has_changes.set()

    async def wait_written(self) -> None:
        """Wait until all changes up to now are on disk.

        Raises:
            sqlite3.Error: they could not be written.
        """
        if self._changes:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._next)
        elif self._current is not None:
            await asyncio.shield(self._current)

    async def run(self) -> None:
        """Commit until cancelled.

        Raises:
            sqlite3.Error: a commit failed. Memory and disk differ now, so the process has to end.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._has_changes.wait()
            self._has_changes.clear()
            changes, self._changes = self._changes, {}
            self._current, self._next = self._next or loop.create_future(), None
            try:
                await loop.run_in_executor(self._thread, self._commit, changes)
            except sqlite3.Error as problem:
                self._current.set_exception(problem)
                self._current.exception()
                raise
            self._current.set_result(None)
            self._current = None

    def close(self) -> None:
        """Write the remaining changes, and close. Call it after `run` has ended."""
        self._thread.shutdown(wait=True)
        self._commit(self._changes)
        self._database.close()

    def _commit(self, changes: _Changes) -> None:
        if not changes:
            return
        writes = [(*key, orjson.dumps(value)) for key, value in changes.items() if value is not None]
        deletes = [key for key, value in changes.items() if value is None]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(_UPSERT, writes)
            self._database.executemany(_DELETE, deletes)
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise


class Table(Generic[T]):
    """The objects of one kind by id."""

    def __init__(self, store: Store, kind: str, rows: dict[str, T]) -> None:
        self._store = store
        self._kind = kind
        self._rows = rows

    def get(self, id_: str) -> T | None:
        """One object."""
        return self._rows.get(id_)

    def values(self) -> Iterable[T]:
        """All of them, oldest first."""
        return self._rows.values()

    def items(self) -> Iterable[tuple[str, T]]:
        """All of them with their ids, oldest first."""
        return self._rows.items()

    def put(self, id_: str, value: T) -> T:
        """Add or replace one."""
        self._rows[id_] = value
        self._store.change(self._kind, id_, value)
        return value

    def drop(self, id_: str) -> None:
        """Delete one."""
        if self._rows.pop(id_, None) is not None:
            self._store.change(self._kind, id_, None)

    def page(
        self, limit: int, before: str | None = None, where: Callable[[T], bool] = lambda _: True
    ) -> tuple[list[T], bool]:
        """Objects older than `before`, newest first, and whether there are more.

        Raises:
            KeyError: `before` is unknown.
        """
        if before is not None and before not in self._rows:
            raise KeyError(before)
        ids: Iterable[str] = reversed(self._rows)
        if before is not None:
            ids = itertools.islice(itertools.dropwhile(lambda id_: id_ != before, ids), 1, None)
        found = list(itertools.islice((row for id_ in ids if where(row := self._rows[id_])), limit + 1))
        return found[:limit], len(found) > limit
