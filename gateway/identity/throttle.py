"""Slow down who guesses passwords: failed logins are counted by account and by address."""

import math

from orderplane.adapters.limits.counters import Counters, Limit
from orderplane.gateway.http.problems import Problem

# Exact: an estimate would give a guesser one more now and then.
ACCOUNT_LIMIT = Limit(10, 300, is_exact=True)
ADDRESS_LIMIT = Limit(100, 300, is_exact=True)


class LoginThrottle:
    """Counts failures alone: who knows their password may log in as often as the rate limits allow."""

    def __init__(self, failures: Counters) -> None:
        self._failures = failures

    async def check(self, merchant: str, account: str, address: str) -> None:
        """See that there were not too many failures of late, whether or not the account exists.

        Raises:
            Problem: `too_many_logins`.
        """
        for limit, key in _keys(merchant, account, address):
            standing = await self._failures.look(limit, *key)
            if not standing.is_within:
                seconds = max(1, math.ceil(standing.reset_seconds))
                raise Problem(
                    "too_many_logins",
                    f"Too many logins failed. Try again in {seconds} s.",
                    headers={"Retry-After": str(seconds)},
                )

    async def failed(self, merchant: str, account: str, address: str) -> None:
        """Count a failure."""
        for limit, key in _keys(merchant, account, address):
            await self._failures.hit(limit, *key)


def _keys(merchant: str, account: str, address: str) -> tuple[tuple[Limit, tuple[str, ...]], ...]:
    return (
        (ACCOUNT_LIMIT, ("failed-login", "account", merchant, account.lower())),
        (ADDRESS_LIMIT, ("failed-login", "address", address)),
    )
