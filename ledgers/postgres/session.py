"""Borrow a connection from the pool, with PostgreSQL's failures mapped to `Transient`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from orderplane.crds.reasons import Reason
from orderplane.ledgers.awaiting import awaiting
from orderplane.ledgers.errors import Transient

Pool: TypeAlias = asyncpg.Pool
Connection: TypeAlias = PoolConnectionProxy
Row: TypeAlias = asyncpg.Record

RETRYABLE = (
    # The server cannot be reached, or has ended the session.
    OSError,  # TimeoutError too
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    # For a connection that the server closed while it was idle; nothing was sent.
    asyncpg.InternalClientError,
    # It has no room, or this transaction lost against another one.
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    # It is not ready: a standby after a failover, or a database that is not created or migrated yet, or
    # whose roles are being changed.
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
)
"""What asyncpg raises while PostgreSQL cannot do its work, and what may be tried again.

Source of the classes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""


@asynccontextmanager
async def session(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection.

    Raises:
        Transient: `RETRYABLE`, as `LedgerUnavailable`. At a commit the result is then unknown: every ledger
            method may be called again.
    """
    try:
        with awaiting("postgres", "ledger"):
            async with pool.acquire(timeout=10) as connection:
                yield connection
    except RETRYABLE as problem:
        raise Transient(
            Reason.LEDGER_UNAVAILABLE,
            f"PostgreSQL cannot be used now ({type(problem).__name__}); it is tried again",
        ) from problem


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Borrow a connection for one transaction; raises as `session` does."""
    async with session(pool) as connection, connection.transaction():
        yield connection


async def act_as(connection: Connection, actor: str | None) -> None:
    """Name who acts in this transaction, as in `crds.actors`: the table `actions` has it.

    None leaves it at the role of the session, which is all that is proved there.
    """
    if actor is not None:
        await connection.execute("SELECT set_config('orderplane.actor', $1, true)", actor)
