"""The connection pool and its limits."""

from typing import Any

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
        init=_set_json_codec,
        reset=_keep_session,
        **_session(plans_once=plans_once),
    )


async def use_dsn(pool: Pool, dsn: str, *, plans_once: bool = False) -> None:
    """Change a pool over to another DSN, such as one with a new password.

    A connection that is borrowed stays until it is given back. Each one is replaced when it is next borrowed.

    Raises:
        OSError, asyncpg.PostgresError: one cannot connect with it; the pool is as it was.
    """
    options = _session(plans_once=plans_once)
    probe = await asyncpg.connect(dsn, **options)
    await probe.close(timeout=5)
    pool.set_connect_args(dsn, **options)
    await pool.expire_connections()


def _session(*, plans_once: bool) -> dict[str, Any]:
    return {"timeout": 10, "command_timeout": 10, "server_settings": _PLANS_ONCE if plans_once else {}}


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
