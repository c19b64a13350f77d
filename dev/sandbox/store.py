"""What a sandbox remembers: dictionaries in memory that are on the disk before anyone is answered.

State lives in memory and changes there at once, between two awaits. One writer commits everything that
changed since its last commit in one transaction (group commit), and every answer waits for
`Store.settled`, reads too: so nobody ever sees what a crash could still take back.
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
    """One SQLite file. Raises sqlite3.Error where it cannot be opened.

    Its whole content is kept in memory: meant for demos and tests, not for years.
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
        """Have the next commit write this; None deletes it."""
        self._changes[kind, id_] = value
        self._has_changes.set()

    async def settled(self) -> None:
        """Wait until everything that was changed up to now is on the disk.

        Raises:
            sqlite3.Error: it could not be written.
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
            sqlite3.Error: memory is ahead of the disk now; the process has to end.
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
        """Write what is left, and close. Call it once `run` has ended."""
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
        """Forget one."""
        if self._rows.pop(id_, None) is not None:
            self._store.change(self._kind, id_, None)

    def page(
        self, limit: int, before: str | None = None, where: Callable[[T], bool] = lambda _: True
    ) -> tuple[list[T], bool]:
        """Newest first, those older than `before`; and whether there are more.

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
