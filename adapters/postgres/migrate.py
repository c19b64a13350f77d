"""Schema migrations: numbered SQL files, each applied once, in one transaction, under a lock."""

from importlib import resources
from importlib.resources.abc import Traversable

import asyncpg

from orderplane.adapters.package_files import package_files
from orderplane.ledgers.postgres.retention import MONTHS_AHEAD

# "orderpla": the advisory lock by which two processes migrate one after the other.
_LOCK = 0x6F72646572706C61


class OlderSchema(Exception):  # noqa: N818
    """The database lacks migrations of this version; the message names them and what to run."""


async def migrate(dsn: str) -> int:
    """Bring the database up to the newest schema.

    Returns:
        How many migrations were applied; 0 means it was up to date.

    Raises:
        FileNotFoundError: the package was built without its migrations.
        asyncpg.PostgresError: a migration failed; nothing of it was kept.
    """
    files = _shipped()
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=60)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        done = {row["name"] for row in await connection.fetch("SELECT name FROM migrations")}
        pending = [f for f in files if f.name not in done]
        for file in pending:
            async with connection.transaction():
                await connection.execute(file.read_text(encoding="utf-8"))
                await connection.execute("INSERT INTO migrations (name) VALUES ($1)", file.name)
        await connection.execute("SELECT make_archive_partitions($1)", MONTHS_AHEAD)
        return len(pending)
    finally:
        await connection.close(timeout=5)


async def check_schema(database: asyncpg.Pool | asyncpg.Connection) -> None:
    """Compare the database with this version's migrations. A newer one is right: see docs/upgrade.md.

    Raises:
        OlderSchema: it lacks some of them.
        asyncpg.PostgresError: the database cannot be asked.
    """
    try:
        done = {row["name"] for row in await database.fetch("SELECT name FROM migrations")}
    except asyncpg.UndefinedTableError:
        done = set()
    missing = [file.name for file in _shipped() if file.name not in done]
    if missing:
        raise OlderSchema(
            f"the database is older than this version: it lacks {', '.join(missing)}. Run: orderplane migrate"
        )


def _shipped() -> list[Traversable]:
    return package_files(resources.files("orderplane.ledgers") / "migrations", ".sql")
