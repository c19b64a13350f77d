"""The connection pool, with its limits in one place."""

from typing import Any, TypeAlias

import asyncpg
import orjson

# asyncpg publishes no types; the names say at least what is meant.
Pool: TypeAlias = Any
Connection: TypeAlias = Any


async def open_pool(dsn: str, *, size: int = 16) -> Pool:
    """Open a pool; every statement is given 10 s, every wait for a connection 10 s.

    jsonb columns read and write plain Python values.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached.
    """
    return await asyncpg.create_pool(
        dsn, min_size=2, max_size=size, timeout=10, command_timeout=10, init=_speak_json
    )


async def _speak_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )
