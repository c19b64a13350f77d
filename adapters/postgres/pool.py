"""The connection pool, with its limits in one place."""

import asyncpg
import orjson

from orderplane.ledgers.postgres.session import Pool

_PLANS_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}


async def open_pool(dsn: str, *, size: int, plans_once: bool = False) -> Pool:
    """Open a pool; every statement is given 10 s, every wait for a connection 10 s.

    jsonb columns read and write plain Python values.

    Args:
        size: So many connections, from the start to the end. To open one takes both sides as long as a
            hundred statements: a pool that grows when it gets busy makes a moment's rush a longer one.
        plans_once: A connection plans each statement once, whatever its arguments, and as for tables that
            are large: what is planned while one is nearly empty is still in use when it is not. Right where
            rows are looked up by key; a search has to be planned for what is searched.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=size,
        max_size=size,
        max_inactive_connection_lifetime=0,
        timeout=10,
        command_timeout=10,
        init=_speak_json,
        reset=_leave_as_is,
        server_settings=_PLANS_ONCE if plans_once else {},
    )


async def _leave_as_is(connection: asyncpg.Connection) -> None:
    """Nobody here changes a session's settings or listens on a pooled one: no round trip to undo that."""


async def _speak_json(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )
