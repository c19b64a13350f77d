"""Slow down who guesses passwords: failed logins are counted by account and by address."""

import hashlib
import math
import time

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from orderplane.gateway.http.problems import Problem

ACCOUNT_LIMIT = parse("10 per 5 minutes")
ADDRESS_LIMIT = parse("100 per 5 minutes")


class LoginThrottle:
    """Counts in this process; what counts over all of them is the rate limit of the address."""

    def __init__(self) -> None:
        self._failures = MovingWindowRateLimiter(MemoryStorage())

    async def check(self, merchant: str, account: str, address: str) -> None:
        """See that there were not too many failures of late, whether or not the account exists.

        Raises:
            Problem: `too_many_logins`.
        """
        for limit, *key in self._keys(merchant, account, address):
            if not await self._failures.test(limit, *key):
                window = await self._failures.get_window_stats(limit, *key)
                seconds = max(1, math.ceil(window.reset_time - time.time()))
                raise Problem(
                    "too_many_logins",
                    f"Too many logins failed. Try again in {seconds} s.",
                    headers={"Retry-After": str(seconds)},
                )

    async def failed(self, merchant: str, account: str, address: str) -> None:
        """Count a failure."""
        for limit, *key in self._keys(merchant, account, address):
            await self._failures.hit(limit, *key)

    def _keys(self, merchant: str, account: str, address: str) -> tuple[tuple[RateLimitItem, str, str], ...]:
        # Hashed, so that no address of anybody stays in memory longer than its request.
        digest = hashlib.sha256(f"{merchant}/{account.lower()}".encode()).hexdigest()
        return (ACCOUNT_LIMIT, "account", digest), (ADDRESS_LIMIT, "address", address)
