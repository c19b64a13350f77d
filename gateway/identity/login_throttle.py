"""How often a wrong password may be tried.

Source: OWASP Authentication Cheat Sheet, "Protect Against Automated Attacks"; OWASP, "Slow Down Online
Guessing Attacks with Device Cookies". Here a network from which a user has logged in before stands for the
device cookie.
"""

import hashlib
import math
from dataclasses import dataclass

from orderplane.adapters.limits.counters import Counters, Limit
from orderplane.gateway.http.client_address import subscriber
from orderplane.gateway.http.problems import Problem
from orderplane.ledgers.postgres.session import Pool, session

# Exact: with an estimated window an attacker would get extra attempts now and then.
PAIR_LIMIT = Limit(10, 300, is_exact=True)
"""Of one account from one network."""
NETWORK_LIMIT = Limit(100, 300, is_exact=True)
"""Of all accounts from one network."""
ACCOUNT_LIMIT = Limit(50, 3600, is_exact=True)
"""Of one account from everywhere. It does not count where the user has logged in before, so nobody can lock
them out there."""

KNOWN_DAYS = 180


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to log in.

    Args:
        account: What the caller calls the account: an e-mail address, or the id of a user.
        address: The caller's IP address; an IPv6 address counts as its /64.
    """

    merchant: str
    account: str
    address: str

    @property
    def network(self) -> str:
        """What is counted of the address."""
        return subscriber(self.address)


class KnownAddresses:
    """The networks from which users have logged in, as hashes. Raises as `session`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, merchant: str, user_id: str, address: str) -> None:
        """Remember a network for `KNOWN_DAYS` from now; that is written about once a day.

        Nothing is written about a user who is deleted.
        """
        async with session(self._pool) as connection:
            await connection.execute(
                "INSERT INTO known_addresses AS known (merchant, user_id, hash, expires_at) "
                "SELECT merchant, id, $3, now() + make_interval(days => $4) FROM users "
                "WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL FOR SHARE "
                "ON CONFLICT (merchant, user_id, hash) DO UPDATE SET expires_at = EXCLUDED.expires_at "
                "WHERE known.expires_at < EXCLUDED.expires_at - interval '1 day'",
                merchant, user_id, _hash(user_id, subscriber(address)), KNOWN_DAYS,
            )  # fmt: skip

    async def has(self, attempt: Attempt) -> bool:
        """Whether the account's user has logged in from this network."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT id FROM users WHERE merchant = $1 AND email = $2 AND deleted_at IS NULL "
                "UNION ALL SELECT id FROM users WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL",
                attempt.merchant, attempt.account,
            )  # fmt: skip
            hashes = [_hash(row["id"], attempt.network) for row in rows]
            found: bool = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM known_addresses WHERE merchant = $1 "
                "AND user_id = ANY($2::text[]) AND hash = ANY($3::bytea[]) AND expires_at > now())",
                attempt.merchant, [row["id"] for row in rows], hashes,
            )  # fmt: skip
        return found


class LoginThrottle:
    """Limits failed logins. Successful ones are limited by the rate limits only."""

    def __init__(self, failures: Counters, known: KnownAddresses) -> None:
        self._failures = failures
        self._known = known

    async def check(self, attempt: Attempt) -> None:
        """Require that there were not too many failures lately, whether or not the account exists.

        Raises:
            Problem: `too_many_logins`.
        """
        for limit, key in _keys(attempt):
            status = await self._failures.peek(limit, *key)
            if status.is_within or (limit is ACCOUNT_LIMIT and await self._known.has(attempt)):
                continue
            seconds = max(1, math.ceil(status.reset_seconds))
            raise Problem(
                "too_many_logins",
                f"Too many logins failed. Try again in {seconds} s, or log in from where you have logged in "
                "before, or ask for a new password by mail.",
                headers={"Retry-After": str(seconds)},
            )

    async def failed(self, attempt: Attempt) -> None:
        """Count a failure."""
        for limit, key in _keys(attempt):
            await self._failures.hit(limit, *key)

    async def succeeded(self, merchant: str, user_id: str, address: str) -> None:
        """Remember from where a user has proved who they are."""
        await self._known.add(merchant, user_id, address)


def _keys(attempt: Attempt) -> tuple[tuple[Limit, tuple[str, ...]], ...]:
    account = attempt.account.lower()
    return (
        (PAIR_LIMIT, ("failed-login", "pair", attempt.merchant, account, attempt.network)),
        (NETWORK_LIMIT, ("failed-login", "network", attempt.network)),
        (ACCOUNT_LIMIT, ("failed-login", "account", attempt.merchant, account)),
    )


def _hash(user_id: str, network: str) -> bytes:
    return hashlib.sha256(f"{user_id} {network}".encode()).digest()
