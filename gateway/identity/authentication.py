"""From a bearer token to the caller."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import (
    TokenRules,
    VerifiedToken,
    caller_of,
    signed,
)
from orderplane.gateway.principal import Principal, TokenRefused
from orderplane.ledgers.errors import Transient

_MOST_TOKENS = 4096


class Accounts(Protocol):
    """Who may call."""

    async def role_of(self, merchant: str, name: str) -> str | None:
        """The role of a user or service as it is now; None where there is no such one any more."""
        ...


class OwnTokens:
    """Implements `principal.Authentication`: takes what this front door has issued."""

    def __init__(
        self,
        ring: KeyRing,
        rules: TokenRules,
        callers: Accounts,
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._ring = ring
        self._rules = rules
        self._callers = callers
        self._unix_time = unix_time
        self._read: OrderedDict[str, VerifiedToken] = OrderedDict()

    async def caller(self, token: str) -> Principal:
        caller = caller_of(self._signed(token), self._rules, self._unix_time())
        if await self._callers.role_of(caller.merchant, caller.name) != caller.role:
            raise TokenRefused("The account of this token is gone or has another role now. Log in again.")
        return caller

    def _signed(self, token: str) -> VerifiedToken:
        """A signature costs a third of a millisecond: it is checked once while its key is published."""
        known = self._read.get(token)
        if known is not None and self._ring.verifying(known.kid) is not None:
            self._read.move_to_end(token)
            return known
        read = signed(token, self._ring.verifying)
        self._read[token] = read
        if len(self._read) > _MOST_TOKENS:
            self._read.popitem(last=False)
        return read


LOOK_SECONDS = 0.5
ALIVE_SECONDS = 2.0
"""Nothing is believed for longer without looking for changes: a deleted user's token dies in this time."""

_KEEP_SECONDS = 300.0
_MOST = 20_000

Name = tuple[str, str]
"""Merchant, and the id of a user or service."""


class AccountSource(Protocol):
    """Where users and services are kept. Raises `Transient` where it does not answer."""

    async def role_of(self, merchant: str, name: str) -> str | None:
        """The role of a user or service who is there now."""
        ...

    async def changed(self) -> Sequence[Name]:
        """Who was changed or has gone within the last few looks, more than once rather than not at all."""
        ...


class AccountCache:
    """Implements `authentication.Accounts`. Without `watch` it asks for each request.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, register: AccountSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._register = register
        self._clock = clock
        self._known: OrderedDict[Name, tuple[float, str | None]] = OrderedDict()
        self._looked_at = float("-inf")

    async def role_of(self, merchant: str, name: str) -> str | None:
        """The role of a user or service as it is, or was a moment ago; None where there is no such one."""
        now, known = self._clock(), self._known.get((merchant, name))
        is_watched = now - self._looked_at < ALIVE_SECONDS
        if known is not None and is_watched and now - known[0] < _KEEP_SECONDS:
            return known[1]
        role = await self._register.role_of(merchant, name)
        self._known[merchant, name] = (now, role)
        self._known.move_to_end((merchant, name))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return role

    async def watch(self) -> None:
        """Look for changes again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Forget whoever was changed. Where that cannot be known, soon nothing that is kept is believed."""
        began = self._clock()
        try:
            changed = await self._register.changed()
        except Transient:
            return
        for name in changed:
            self._known.pop(name, None)
        self._looked_at = began
