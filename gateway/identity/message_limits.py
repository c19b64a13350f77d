"""How many messages about accounts somebody may ask for.

How many one recipient gets is decided by the notifier, over all gateways (`workers.notifier.account_plan`).
"""

import math

from orderplane.adapters.limits.counters import Counters, Limit
from orderplane.gateway.http.client_address import subscriber
from orderplane.gateway.http.problems import Problem

NETWORK_LIMIT = Limit(60, 3600)
"""Registrations and resets from one network: an office may register on one day."""
USER_LIMIT = Limit(10, 86_400)
"""New addresses and numbers of one user: an SMS costs money wherever it goes."""


class MessageLimits:
    """Counts requests for messages.

    Args:
        counters: None limits nothing.
    """

    def __init__(self, counters: Counters | None) -> None:
        self._counters = counters

    async def count_stranger(self, address: str) -> None:
        """Count a request of somebody who is not logged in.

        Raises:
            Problem: `rate_limited`.
        """
        await self._count(NETWORK_LIMIT, "network", subscriber(address))

    async def count_user(self, merchant: str, user_id: str) -> None:
        """Count a request of a user.

        Raises:
            Problem: `rate_limited`.
        """
        await self._count(USER_LIMIT, "user", merchant, user_id)

    async def _count(self, limit: Limit, *key: str) -> None:
        if self._counters is None:
            return
        status = await self._counters.hit(limit, "account-message", *key)
        if not status.is_within:
            seconds = max(1, math.ceil(status.reset_seconds))
            raise Problem(
                "rate_limited",
                f"Too many messages were asked for. Try again in {seconds} s.",
                headers={"Retry-After": str(seconds)},
            )
