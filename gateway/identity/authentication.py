"""From a bearer token of our own to its caller, whose account must still exist."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from orderplane.adapters.halves import Beat
from orderplane.crds.reasons import Reason
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import (
    TokenRules,
    principal_of,
    validity,
    verify_signature,
)
from orderplane.gateway.principal import Principal, TokenRefused
from orderplane.ledgers.errors import Transient

_MAX_TOKENS = 4096

REFRESH_SECONDS = 0.5
MAX_STALENESS_SECONDS = 2.0
"""A cached role is not used if the last refresh is older than this. So the tokens of an ended login stop
working within this time, also where its NOTIFY was lost."""
ANSWER_SECONDS = 3.0
"""So long a request waits for its caller's account. A database that hangs is told then, and not when the
time-out of a statement is over."""
_MAX_UNANSWERED = 32
"""With so many reads of accounts that have no answer, nobody else waits for one."""
_MAX_AGE_SECONDS = 300.0
_MAX_ACCOUNTS = 20_000
_MAX_LOGINS = 16
"""Of one account; with more, those in the cache are read again."""
Name = tuple[str, str]
"""Merchant, and the id of a user or service."""


class Accounts(Protocol):
    """Roles of accounts, as `AccountCache` has them."""

    async def role_of(self, merchant: str, name: str, login: str | None) -> str | None:
        """The current role of a user or service; None if there is none, or if this login has ended."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified: its key, its caller, and the Unix times between which it holds."""

    kid: str
    caller: Principal
    valid_from: float
    valid_until: float


class OwnTokens:
    """Implements `principal.Authentication` for tokens that were issued here.

    A token is verified once: to check its signature and its claims costs a third of a millisecond. It is
    remembered by its hash, so that no tokens are kept. What can change is looked at each time: whether its
    key is still published, the time, and its account.
    """

    def __init__(
        self,
        ring: KeyRing,
        rules: TokenRules,
        accounts: Accounts,
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._ring = ring
        self._rules = rules
        self._accounts = accounts
        self._unix_time = unix_time
        self._verified: OrderedDict[bytes, _Known] = OrderedDict()

    async def caller(self, token: str) -> Principal:
        caller = self._verify(token)
        if await self._accounts.role_of(caller.merchant, caller.name, caller.login) != caller.role:
            raise TokenRefused(
                "The login of this token has ended, or its account is gone or has another role now. "
                "Log in again."
            )
        return caller

    def _verify(self, token: str) -> Principal:
        now = self._unix_time()
        fingerprint = blake2b(token.encode(), digest_size=32).digest()
        known = self._verified.get(fingerprint)
        if known is not None:
            if known.valid_from <= now < known.valid_until and self._ring.verifying(known.kid) is not None:
                self._verified.move_to_end(fingerprint)
                return known.caller
            del self._verified[fingerprint]
        verified = verify_signature(token, self._ring.verifying)
        caller = principal_of(verified, self._rules, now)
        self._verified[fingerprint] = _Known(verified.kid, caller, *validity(verified))
        if len(self._verified) > _MAX_TOKENS:
            self._verified.popitem(last=False)
        return caller


class AccountSource(Protocol):
    """Where users and services are stored. Raises `Transient` if it cannot be read."""

    async def role_of(self, merchant: str, name: str, login: str | None) -> str | None:
        """The role of a user or service; None if there is none, or if this login has ended."""
        ...

    async def recently_changed(self) -> Sequence[Name]:
        """Users and services that changed lately, or one of whose logins has ended.

        Each change is reported by several calls rather than by none.
        """
        ...


class AccountCache:
    """Implements `Accounts` by a cache. While `watch` does not run, each request reads the source.

    Args:
        monotonic: Monotonic seconds.
    """

    def __init__(self, source: AccountSource, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._monotonic = monotonic
        self._known: OrderedDict[Name, dict[str | None, tuple[float, str | None]]] = OrderedDict()
        self._refreshed_at = float("-inf")
        self._forgotten = 0
        self._unanswered: set[asyncio.Task[str | None]] = set()

    async def role_of(self, merchant: str, name: str, login: str | None) -> str | None:
        """The role, at most `MAX_STALENESS_SECONDS` old; see `Accounts`."""
        now, logins = self._monotonic(), self._known.get((merchant, name))
        known = logins.get(login) if logins is not None else None
        is_fresh = now - self._refreshed_at < MAX_STALENESS_SECONDS
        if known is not None and is_fresh and now - known[0] < _MAX_AGE_SECONDS:
            return known[1]
        forgotten = self._forgotten
        role = await self._ask(merchant, name, login)
        # What was read while an account was forgotten may be older than its change.
        if forgotten == self._forgotten:
            self._keep((merchant, name), login, (now, role))
        return role

    async def _ask(self, merchant: str, name: str, login: str | None) -> str | None:
        """Read the source, which may take longer than a caller waits: what has no answer is left to its own
        time-out, because to cancel a statement is to ask the same database."""
        if len(self._unanswered) >= _MAX_UNANSWERED:
            raise Transient(
                Reason.LEDGER_UNAVAILABLE, "the accounts cannot be read: PostgreSQL does not answer"
            )
        asking = asyncio.create_task(self._source.role_of(merchant, name, login))
        await asyncio.wait({asking}, timeout=ANSWER_SECONDS)
        if asking.done():
            return asking.result()
        self._unanswered.add(asking)
        asking.add_done_callback(self._drop)
        raise Transient(
            Reason.LEDGER_UNAVAILABLE,
            f"PostgreSQL has not told the account of {name} in {ANSWER_SECONDS:g} s",
        )

    def _drop(self, asked: asyncio.Task[str | None]) -> None:
        self._unanswered.discard(asked)
        if not asked.cancelled():
            asked.exception()

    def forget(self, merchant: str, name: str) -> None:
        """Read an account again before it is used: it has changed."""
        self._forgotten += 1
        self._known.pop((merchant, name), None)

    async def watch(self, beat: Beat) -> None:
        """Refresh again and again, until cancelled."""
        while True:
            beat()
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Drop the accounts that changed. If the source cannot be read, the cache soon counts as stale."""
        started_at = self._monotonic()
        try:
            changed = await self._source.recently_changed()
        except Transient:
            return
        for name in changed:
            self.forget(*name)
        self._refreshed_at = started_at

    def _keep(self, name: Name, login: str | None, read: tuple[float, str | None]) -> None:
        logins = self._known.setdefault(name, {})
        if len(logins) >= _MAX_LOGINS:
            logins.clear()
        logins[login] = read
        self._known.move_to_end(name)
        if len(self._known) > _MAX_ACCOUNTS:
            self._known.popitem(last=False)
