"""Accounts: register, log in, hold tokens, send requests with them, read and change the profile."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol, cast

from orderplane.client.responses import Profile
from orderplane.client.transport import ApiProblem, Request, Response, Transport

EARLY_SECONDS = 30.0
"""How long before its end a token is not used any more: it has to last for its request."""

_PATH = "/api/auth/login"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives.

    Args:
        expires_at: Unix time at which `access` is not taken any more.
        refresh: Good once, for new tokens; services have none.
    """

    access: str
    expires_at: float
    refresh: str | None = None


@dataclass(frozen=True, slots=True)
class Password:
    """A person's credentials; without a merchant the front door's own is meant."""

    email: str
    password: str
    merchant: str | None = None

    @property
    def form(self) -> dict[str, str]:
        """What is sent for them (RFC 6749, 4.3)."""
        form = {"grant_type": "password", "username": self.email, "password": self.password}
        return form | ({"merchant": self.merchant} if self.merchant else {})


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A service's credentials."""

    client_id: str
    secret: str
    merchant: str | None = None

    @property
    def form(self) -> dict[str, str]:
        """What is sent for them (RFC 6749, 4.4)."""
        form = {
            "grant_type": "client_credentials", "client_id": self.client_id, "client_secret": self.secret,
        }  # fmt: skip
        return form | ({"merchant": self.merchant} if self.merchant else {})


class TokenStore(Protocol):
    """Where tokens are kept."""

    def alone(self) -> AbstractAsyncContextManager[object]:
        """A block in which nobody else changes them."""
        ...

    def read(self) -> Tokens | None: ...
    def write(self, tokens: Tokens | None) -> None: ...


class MemoryTokenStore:
    """Keeps them for as long as the process lives."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens
        self._lock = asyncio.Lock()

    def alone(self) -> AbstractAsyncContextManager[object]:
        return self._lock

    def read(self) -> Tokens | None:
        return self._tokens

    def write(self, tokens: Tokens | None) -> None:
        self._tokens = tokens


class Login:
    """One caller. Of many requests at once that need a token, one asks for it.

    Args:
        credentials: Without them it goes on for as long as the kept tokens can be refreshed.
        unix_time: Unix time.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Password | ClientSecret | None = None,
        keep: TokenStore | None = None,
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._keep = keep or MemoryTokenStore()
        self._unix_time = unix_time

    async def token(self, *, instead_of: str | None = None) -> str:
        """An access token that is good now.

        Args:
            instead_of: One that was refused although it should have been good.

        Raises:
            ApiProblem: no token is given; `unauthenticated` where nobody has logged in.
        """
        if known := self._good(instead_of):
            return known.access
        async with self._keep.alone():
            if known := self._good(instead_of):
                return known.access
            tokens = await self._next(self._keep.read())
            self._keep.write(tokens)
            return tokens.access

    async def begin(self) -> None:
        """Log in anew.

        Raises:
            ApiProblem: the credentials are not taken.
        """
        assert self._credentials is not None
        async with self._keep.alone():
            self._keep.write(await self._granted(self._credentials.form, is_idempotent=True))

    async def end(self) -> None:
        """Log out: forget the tokens, and have the front door forget them too.

        Raises:
            ApiProblem: the front door could not be told; here they are forgotten all the same.
        """
        async with self._keep.alone():
            tokens = self._keep.read()
            self._keep.write(None)
        if tokens is not None and tokens.refresh is not None:
            form = {"refresh_token": tokens.refresh}
            await self._transport.send(Request("POST", "/api/auth/logout", form=form, is_idempotent=True))

    def _good(self, refused: str | None) -> Tokens | None:
        tokens = self._keep.read()
        if tokens is None or tokens.access == refused:
            return None
        return tokens if self._unix_time() < tokens.expires_at - EARLY_SECONDS else None

    async def _next(self, tokens: Tokens | None) -> Tokens:
        if tokens is not None and tokens.refresh is not None:
            form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh}
            try:
                # Never twice: one that comes again ends the login.
                return await self._granted(form, is_idempotent=False)
            except ApiProblem:
                if self._credentials is None:
                    raise
        if self._credentials is None:
            raise ApiProblem(401, "unauthenticated", "Nobody is logged in, or not any more. Log in first.")
        return await self._granted(self._credentials.form, is_idempotent=True)

    async def _granted(self, form: dict[str, str], *, is_idempotent: bool) -> Tokens:
        asked_at = self._unix_time()
        answer = await self._transport.send(Request("POST", _PATH, form=form, is_idempotent=is_idempotent))
        document = answer.document
        return Tokens(
            document["access_token"], asked_at + document["expires_in"], document.get("refresh_token")
        )


class Caller:
    """Sends requests with a token."""

    def __init__(self, transport: Transport, login: Login) -> None:
        self._transport = transport
        self._login = login

    async def send(self, request: Request) -> Response:
        """Send it as the one who is logged in.

        Raises:
            ApiProblem: it was refused, or not answered.
        """
        token = await self._login.token()
        try:
            return await self._transport.send(_with(token, request))
        except ApiProblem as problem:
            if problem.code != "invalid_token":
                raise
        # The keys were changed, or the clocks differ. Whoever refuses a token has done nothing yet.
        token = await self._login.token(instead_of=token)
        return await self._transport.send(_with(token, request))


def _with(token: str, request: Request) -> Request:
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})


async def register(
    transport: Transport, *, email: str, password: str, name: str = "", phone: str | None = None
) -> None:
    """Make a customer's account. For an address that has one nothing changes, and nobody is told.

    Raises:
        ApiProblem: `validation_failed`.
    """
    account = {"email": email, "password": password, "name": name} | ({"phone": phone} if phone else {})
    await transport.send(Request("POST", "/api/auth/register", json=account, is_idempotent=True))


async def get_profile(caller: Caller) -> Profile:
    """The account that is logged in.

    Raises:
        ApiProblem: `insufficient_scope`: it is a service's.
    """
    return cast("Profile", (await caller.send(Request("GET", "/api/users/me"))).document)


async def set_preferences(caller: Caller, *, email: bool, sms: bool) -> Profile:
    """Choose the channels through which one is told of one's orders.

    Raises:
        ApiProblem: `insufficient_scope`: it is a service's.
    """
    wish = {"preferences": {"email": email, "sms": sms}}
    request = Request("PATCH", "/api/users/me", json=wish, is_idempotent=True)
    return cast("Profile", (await caller.send(request)).document)
