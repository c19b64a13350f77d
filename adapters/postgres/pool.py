"""The connection pool and its limits."""

import asyncpg
import orjson

from orderplane.ledgers.postgres.session import Pool

_PLANS_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}


async def open_pool(dsn: str, *, size: int, plans_once: bool = False) -> Pool:
    """Open a pool. Each statement may take 10 s, and so may the wait for a connection.

    jsonb columns are read and written as plain Python values.

    Args:
        size: The number of connections, opened at once and kept. Opening one costs both sides as much as a
            hundred statements: a pool that grows under load makes the load worse.
        plans_once: Use generic plans (`plan_cache_mode`), and plan as for large tables (`enable_seqscan`): a
            plan that was made while a table was nearly empty is still used when it is large. Right for
            look-ups by key; a search has to be planned for its arguments.

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
        init=_set_json_codec,
        reset=_keep_session,
        server_settings=_PLANS_ONCE if plans_once else {},
    )


async def _keep_session(connection: asyncpg.Connection) -> None:
    """No session of the pool changes its settings or listens, so there is nothing that a round trip would
    reset."""


async def _set_json_codec(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )
