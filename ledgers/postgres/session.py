"""Borrow a connection from the pool, with PostgreSQL's failures mapped to the two families of errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import Transient

# asyncpg publishes no types; the names say at least what is meant.
Pool: TypeAlias = Any
Connection: TypeAlias = Any

_RECOVERABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InterfaceError,
    # What asyncpg says of a connection that the server ended while nobody used it; nothing was sent.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


@asynccontextmanager
async def session(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection.

    Raises:
        Transient: the database cannot be reached or gave up on us (`LedgerUnavailable`). Where that was at a
            commit, nobody knows whether it happened: every ledger method can be asked again.
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
