"""Tell every gateway at once of an account that has changed: NOTIFY in the transaction of the change.

What is missed while a gateway does not listen is found by `AccountCache.refresh`.
"""

from collections.abc import Callable

import orjson

from orderplane.adapters.halves import Beat
from orderplane.adapters.postgres.listen import listen
from orderplane.ledgers.postgres.session import Connection

CHANNEL = "account"

OnChange = Callable[[str, str], None]
"""Gets the merchant and the id of a user or service."""


async def announce(connection: Connection, merchant: str, name: str) -> None:
    """Tell of a change of a user or service; it is sent when the transaction is committed."""
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, orjson.dumps([merchant, name]).decode())


async def listen_for_changes(dsn: Callable[[], str], on_change: OnChange, beat: Beat) -> None:
    """LISTEN until cancelled."""
    await listen(dsn, CHANNEL, lambda payload: on_change(*orjson.loads(payload)), beat)
