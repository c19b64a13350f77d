"""Borrow a connection from the pool, with PostgreSQL's failures mapped to `Transient`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Transient

Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = PoolConnectionProxy
Row: TypeAlias = asyncpg.Record

_RECOVERABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InterfaceError,
    # asyncpg raises this for a connection that the server closed while it was idle; nothing was sent.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


@asynccontextmanager
async def session(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection.

    Raises:
        Transient: the database cannot be reached or ended the session (`LedgerUnavailable`). At a commit the
            result is then unknown: every ledger method may be called again.
    """
    try:
        async with pool.acquire(timeout=10) as connection:
            yield connection
    except _RECOVERABLE as problem:
        raise Transient(
            Reason.LEDGER_UNAVAILABLE,
            f"PostgreSQL did not answer ({type(problem).__name__}); it is tried again",
        ) from problem


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection for one transaction; raises as `session` does."""
    async with session(pool) as connection, connection.transaction():
        yield connection
