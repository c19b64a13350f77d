"""From a bearer token to the caller: the token is right, and whom it names is still there."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from orderplane.gateway.identity.issuer import OutsideIssuer
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.tokens import (
    OUTSIDE_ALGORITHMS,
    Rules,
    Signed,
    UnknownKey,
    caller_of,
    signed,
)
from orderplane.gateway.principal import Principal, TokenRefused

ALIVE_SECONDS = 2.0
"""For how long a caller is not looked up again: a deleted user's token dies within this time."""

_MOST_TOKENS = 4096
_MOST_CALLERS = 4096


class Callers(Protocol):
    """Who may call."""

    async def role_of(self, merchant: str, name: str) -> str | None:
        """The role of a user or service as it is now; None where there is no such one any more."""
        ...


class OwnTokens:
    """Implements `principal.Authentication`: takes what this front door has issued."""

    def __init__(
        self,
        ring: KeyRing,
        rules: Rules,
        callers: Callers,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._rules = rules
        self._callers = callers
        self._wall = wall
        self._clock = clock
        self._read: OrderedDict[str, Signed] = OrderedDict()
        self._alive: OrderedDict[tuple[str, str], tuple[float, str | None]] = OrderedDict()

    async def caller(self, token: str) -> Principal:
        caller = caller_of(self._signed(token), self._rules, self._wall())
        role = await self._role_of(caller)
        if role != caller.role:
            raise TokenRefused("The account of this token is gone or has another role now. Log in again.")
        return caller

    def _signed(self, token: str) -> Signed:
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

    async def _role_of(self, caller: Principal) -> str | None:
        key = (caller.merchant, caller.name)
        known = self._alive.get(key)
        if known is not None and self._clock() - known[0] < ALIVE_SECONDS:
            return known[1]
        role = await self._callers.role_of(*key)
        self._alive[key] = (self._clock(), role)
        self._alive.move_to_end(key)
        if len(self._alive) > _MOST_CALLERS:
            self._alive.popitem(last=False)
        return role


class OutsideTokens:
    """Implements `principal.Authentication`: takes what an outside issuer has issued.

    That one knows who is still there.
    """

    def __init__(self, issuer: OutsideIssuer, rules: Rules, *, wall: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._rules = rules
        self._wall = wall

    async def caller(self, token: str) -> Principal:
        await self._issuer.refresh()
        try:
            read = signed(token, self._issuer.verifying, OUTSIDE_ALGORITHMS)
        except UnknownKey as problem:
            await self._issuer.refresh(problem.kid)
            read = signed(token, self._issuer.verifying, OUTSIDE_ALGORITHMS)
        return caller_of(read, self._rules, self._wall())
