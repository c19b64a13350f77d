"""Ledgers of a test's own."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from orderplane.adapters.postgres.migrate import migrate
from orderplane.adapters.postgres.pool import open_pool
from orderplane.ledgers.postgres.session import Pool


@asynccontextmanager
async def own_database(server: str, *, plans_once: bool = False) -> AsyncIterator[Pool]:
    """Empty ledgers, for what looks at everybody's rows.

    Args:
        server: The DSN of a database on the same server.
    """
    name = f"own_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(server, timeout=10)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
    finally:
        await admin.close(timeout=5)
    dsn = server.rpartition("/")[0] + f"/{name}"
    await migrate(dsn)
    opened = await open_pool(dsn, size=2, plans_once=plans_once)
    yield opened
    await opened.close()
