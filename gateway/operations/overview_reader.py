"""Reads the overview of a merchant, at most every two seconds: many people may look at it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from orderplane.gateway.operations.overview import figures
from orderplane.gateway.operations.views import OverviewView, overview_view
from orderplane.gateway.orders.held_orders import HeldOrders
from orderplane.ledgers.postgres.customer_messages import CustomerMessages
from orderplane.ledgers.postgres.session import Pool, session

FRESH_SECONDS = 2.0
MOST_MERCHANTS = 256
"""Whose overviews are kept; who was asked for longest ago goes first."""

# As the relay does: it never looks at more of a long outbox.
_OUTBOX = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8
FROM (SELECT at FROM history WHERE published_at IS NULL ORDER BY partition, id LIMIT 10000) AS waiting
"""


class OverviewReader:
    """See the module.

    Args:
        monotonic: Seconds.
    """

    def __init__(
        self, pool: Pool, held: HeldOrders, messages: CustomerMessages, monotonic: Callable[[], float]
    ) -> None:
        self._pool = pool
        self._held = held
        self._messages = messages
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[float, OverviewView]] = OrderedDict()
        self._reading = asyncio.Lock()

    async def read(self, merchant: str) -> OverviewView:
        """The overview, at most `FRESH_SECONDS` old; raises `Transient` as `session` does."""
        async with self._reading:
            known = self._known.get(merchant)
            if known is not None and self._monotonic() - known[0] < FRESH_SECONDS:
                return known[1]
            failed = await self._messages.count_failed(merchant)
            async with session(self._pool) as connection:
                outbox = float(await connection.fetchval(_OUTBOX))
            counted = figures(self._held, merchant, datetime.now(UTC))
            view = overview_view(merchant, counted, outbox_seconds=outbox, failed_messages=failed)
            self._known[merchant] = self._monotonic(), view
            self._known.move_to_end(merchant)
            if len(self._known) > MOST_MERCHANTS:
                self._known.popitem(last=False)
            return view
