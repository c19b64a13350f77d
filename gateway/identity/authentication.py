"""From a bearer token to the caller: the token is right, and whom it names is still there."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from orderplane.gateway.identity.issuer import OidcIssuer
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

_MOST_TOKENS = 4096


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
    ) -> None:
        self._ring = ring
        self._rules = rules
        self._callers = callers
        self._wall = wall
        self._read: OrderedDict[str, Signed] = OrderedDict()

    async def caller(self, token: str) -> Principal:
        caller = caller_of(self._signed(token), self._rules, self._wall())
        if await self._callers.role_of(caller.merchant, caller.name) != caller.role:
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


class OutsideTokens:
    """Implements `principal.Authentication`: takes what an outside issuer has issued.

    That one knows who is still there.
    """

    def __init__(self, issuer: OidcIssuer, rules: Rules, *, wall: Callable[[], float] = time.time) -> None:
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
