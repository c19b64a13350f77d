"""Accounts: register, log in and out, send requests with the tokens, read and change the profile."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, cast

from orderplane.client.responses import Profile
from orderplane.client.transport import ApiProblem, Request, Response, Transport

EARLY_SECONDS = 30.0
"""A token is renewed this long before it expires, so that it does not expire during a request."""

_LOGIN_PATH = "/api/auth/login"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a login.

    Args:
        expires_at: Unix time at which `access` expires.
        refresh: Can be used once, for new tokens; services have none.
    """

    access: str
    expires_at: float
    refresh: str | None = None


@dataclass(frozen=True, slots=True)
class Password:
    """A user's credentials; without a merchant, those of the gateway's own merchant."""

    email: str
    password: str
    merchant: str | None = None

    @property
    def form(self) -> dict[str, str]:
        """The form of the token request (RFC 6749, 4.3)."""
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
        """The form of the token request (RFC 6749, 4.4)."""
        form = {
            "grant_type": "client_credentials", "client_id": self.client_id, "client_secret": self.secret,
        }  # fmt: skip
        return form | ({"merchant": self.merchant} if self.merchant else {})


class TokenStore(Protocol):
    """Where tokens are stored."""

    def locked(self) -> AbstractAsyncContextManager[object]:
        """A block in which no other task or process changes the tokens."""
        ...

    def read(self) -> Tokens | None: ...
    def write(self, tokens: Tokens | None) -> None: ...


class MemoryTokenStore:
    """Stores tokens for the lifetime of the process."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens
        self._lock = asyncio.Lock()

    def locked(self) -> AbstractAsyncContextManager[object]:
        return self._lock

    def read(self) -> Tokens | None:
        return self._tokens

    def write(self, tokens: Tokens | None) -> None:
        self._tokens = tokens


class Login:
    """The login of one caller. If many requests need a new token at once, one of them requests it.

    Args:
        credentials: Without them, the login lasts as long as the stored tokens can be refreshed.
        unix_time: Unix time.
    """

    def __init__(
        self,
        transport: Transport,
        credentials: Password | ClientSecret | None = None,
        token_store: TokenStore | None = None,
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self.token_store = token_store or MemoryTokenStore()
        self._unix_time = unix_time

    async def token(self, *, rejected: str | None = None) -> str:
        """A valid access token.

        Args:
            rejected: A token that was refused although it had not expired.

        Raises:
            ApiProblem: no token was issued; `unauthenticated` if nobody has logged in.
        """
        if known := self._valid_tokens(rejected):
            return known.access
        async with self.token_store.locked():
            if known := self._valid_tokens(rejected):
                return known.access
            tokens = await self._next(self.token_store.read())
            self.token_store.write(tokens)
            return tokens.access

    async def log_in(self) -> None:
        """Log in with the credentials.

        Raises:
            ApiProblem: the credentials are refused.
        """
        assert self._credentials is not None
        async with self.token_store.locked():
            self.token_store.write(await self._request_tokens(self._credentials.form, is_idempotent=True))

    async def log_out(self) -> None:
        """Log out: delete the stored tokens and revoke the login.

        Raises:
            ApiProblem: the login was not revoked; the stored tokens are deleted all the same.
        """
        async with self.token_store.locked():
            tokens = self.token_store.read()
            self.token_store.write(None)
        if tokens is not None and tokens.refresh is not None:
            form = {"refresh_token": tokens.refresh}
            await self._transport.send(Request("POST", "/api/auth/logout", form=form, is_idempotent=True))

    def _valid_tokens(self, refused: str | None) -> Tokens | None:
        tokens = self.token_store.read()
        if tokens is None or tokens.access == refused:
            return None
        return tokens if self._unix_time() < tokens.expires_at - EARLY_SECONDS else None

    async def _next(self, tokens: Tokens | None) -> Tokens:
        if tokens is not None and tokens.refresh is not None:
            form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh}
            try:
                # Not repeated: a refresh token that is used twice revokes the login.
                return await self._request_tokens(form, is_idempotent=False)
            except ApiProblem:
                if self._credentials is None:
                    raise
        if self._credentials is None:
            raise ApiProblem(401, "unauthenticated", "Nobody is logged in, or not any more. Log in first.")
        return await self._request_tokens(self._credentials.form, is_idempotent=True)

    async def _request_tokens(self, form: dict[str, str], *, is_idempotent: bool) -> Tokens:
        asked_at = self._unix_time()
        answer = await self._transport.send(
            Request("POST", _LOGIN_PATH, form=form, is_idempotent=is_idempotent)
        )
        document = answer.document
        return Tokens(
            document["access_token"], asked_at + document["expires_in"], document.get("refresh_token")
        )


class TokenSource(Protocol):
    """Where access tokens come from: a `Login`, or another issuer's."""

    async def token(self, *, rejected: str | None = None) -> str:
        """As `Login.token`."""
        ...


class Caller:
    """Sends requests with the access token of a login."""

    def __init__(self, transport: Transport, login: TokenSource) -> None:
        self._transport = transport
        self._login = login

    async def send(self, request: Request) -> Response:
        """Send a request as the logged-in caller.

        Raises:
            ApiProblem: it was refused or not answered.
        """
        token = await self._login.token()
        try:
            return await self._transport.send(_authorized(token, request))
        except ApiProblem as problem:
            if problem.code != "invalid_token":
                raise
        # Keys were rotated or clocks differ. A refused request had no effect, so it can be sent again.
        token = await self._login.token(rejected=token)
        return await self._transport.send(_authorized(token, request))

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer that goes on, as the logged-in caller; see `Transport.stream`."""
        async with AsyncExitStack() as stack:
            token = await self._login.token()
            try:
                pieces = await stack.enter_async_context(self._transport.stream(_authorized(token, request)))
            except ApiProblem as problem:
                if problem.code != "invalid_token":
                    raise
                token = await self._login.token(rejected=token)
                pieces = await stack.enter_async_context(self._transport.stream(_authorized(token, request)))
            yield pieces


def _authorized(token: str, request: Request) -> Request:
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})


async def register(
    transport: Transport, *, email: str, password: str, name: str = "", phone: str | None = None
) -> None:
    """Ask for a customer's account, which is made once its address is confirmed (`confirm_registration`).

    If the address has an account, nothing changes, and the answer is the same.

    Raises:
        ApiProblem: `validation_failed`.
    """
    account = {"email": email, "password": password, "name": name} | ({"phone": phone} if phone else {})
    await transport.send(Request("POST", "/api/auth/register", json=account, is_idempotent=True))


async def confirm_registration(transport: Transport, *, token: str, password: str) -> None:
    """Create the account of a registration, by the token in the mail and the password of the registration.

    Raises:
        ApiProblem: `invalid_confirmation`, `wrong_password`.
    """
    body = {"token": token, "password": password}
    await transport.send(Request("POST", "/api/auth/register/confirm", json=body))


async def request_password_reset(transport: Transport, *, email: str) -> None:
    """Have a link sent to an address, if it has an account. The answer is the same if it has none.

    Raises:
        ApiProblem: `validation_failed`, `rate_limited`.
    """
    await transport.send(Request("POST", "/api/auth/password-reset", json={"email": email}))


async def reset_password(transport: Transport, *, token: str, new_password: str) -> None:
    """Set a new password, by the token in the mail. All logins end.

    Raises:
        ApiProblem: `invalid_confirmation`.
    """
    body = {"token": token, "newPassword": new_password}
    await transport.send(Request("POST", "/api/auth/password-reset/confirm", json=body))


async def change_email(caller: Caller, *, email: str, current_password: str) -> None:
    """Have a link sent to a new address, which takes the place of the present one once it is confirmed.

    Raises:
        ApiProblem: `wrong_password`, `too_many_logins`, `rate_limited`.
    """
    body = {"email": email, "currentPassword": current_password}
    await caller.send(Request("PUT", "/api/users/me/email", json=body))


async def confirm_email(caller: Caller, *, token: str) -> None:
    """Confirm an address, by the token in the mail.

    Raises:
        ApiProblem: `invalid_confirmation`.
    """
    await caller.send(Request("POST", "/api/users/me/email/confirm", json={"token": token}))


async def change_phone(caller: Caller, phone: str | None) -> Profile:
    """Have a code sent to a new number, or remove the present one.

    Raises:
        ApiProblem: `rate_limited`.
    """
    request = Request("PATCH", "/api/users/me", json={"phone": phone})
    return cast("Profile", (await caller.send(request)).document)


async def confirm_phone(caller: Caller, *, code: str) -> None:
    """Confirm a number, by the code in the newest SMS.

    Raises:
        ApiProblem: `invalid_confirmation`.
    """
    await caller.send(Request("POST", "/api/users/me/phone/confirm", json={"code": code}))


async def end_logins(caller: Caller) -> None:
    """Log out everywhere, here too."""
    await caller.send(Request("DELETE", "/api/users/me/logins"))


async def get_profile(caller: Caller) -> Profile:
    """The profile of the logged-in user.

    Raises:
        ApiProblem: `insufficient_scope`: services have no profile.
    """
    return cast("Profile", (await caller.send(Request("GET", "/api/users/me"))).document)


async def set_preferences(caller: Caller, *, email: bool, sms: bool) -> Profile:
    """Choose the channels of notifications about orders.

    Raises:
        ApiProblem: `insufficient_scope`: services have no profile.
    """
    changes = {"preferences": {"email": email, "sms": sms}}
    request = Request("PATCH", "/api/users/me", json=changes, is_idempotent=True)
    return cast("Profile", (await caller.send(request)).document)
