"""Accounts of our own: OAuth grants (RFC 6749, 4.3, 4.4 and 6) and the limit on failed logins, without
HTTP."""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from orderplane.adapters.limits.counters import Counters, Limit
from orderplane.gateway.http.client_address import Networks
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.login_store import LoginStore
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.tokens import AccessToken, TokenRules, granted_scopes, issue
from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.principal import Principal, Role

FIRST_PARTY = "orderplane"
"""The `client_id` of users' tokens: users log in through one application, which is ours."""

# Exact: with an estimated window an attacker would get extra attempts now and then.
ACCOUNT_LIMIT = Limit(10, 300, is_exact=True)
ADDRESS_LIMIT = Limit(100, 300, is_exact=True)


class GrantRefused(Exception):  # noqa: N818
    """The grant is refused; `error` is a code of RFC 6749, 5.2."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


@dataclass(frozen=True, slots=True)
class GrantedTokens:
    """The tokens of a grant. Services get no refresh token: they can use their secret again."""

    access: AccessToken
    refresh: str | None


class LoginThrottle:
    """Limits failed logins by account and by address.

    Successful logins are limited by the rate limits only.
    """

    def __init__(self, failures: Counters) -> None:
        self._failures = failures

    async def check(self, merchant: str, account: str, address: str) -> None:
        """Require that there were not too many failures lately, whether or not the account exists.

        Raises:
            Problem: `too_many_logins`.
        """
        for limit, key in _keys(merchant, account, address):
            status = await self._failures.peek(limit, *key)
            if not status.is_within:
                seconds = max(1, math.ceil(status.reset_seconds))
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


class Grants:
    """Issues tokens for a password, a client secret, or an unused refresh token."""

    def __init__(
        self,
        users: UserStore,
        logins: LoginStore,
        passwords: Passwords,
        throttle: LoginThrottle,
        ring: KeyRing,
        rules: TokenRules,
        *,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._users = users
        self._logins = logins
        self._passwords = passwords
        self._throttle = throttle
        self._ring = ring
        self._rules = rules
        self._unix_time = unix_time

    async def password(
        self, merchant: str, email: str, password: str, *, scope: str | None, address: str
    ) -> GrantedTokens:
        """A user logs in.

        Raises:
            GrantRefused: `invalid_grant`, for an unknown address as for a wrong password.
            Problem: `too_many_logins`, `overloaded`.
        """
        await self._throttle.check(merchant, email, address)
        found = await self._users.credentials(merchant, email)
        if not await self._passwords.matches(password, found[1] if found else None) or found is None:
            await self._throttle.failed(merchant, email, address)
            raise GrantRefused("invalid_grant", "The address or the password is wrong.")
        user, known = found
        if self._passwords.is_outdated(known):
            new_hash = await self._passwords.hash(password)
            await self._users.set_password(merchant, user.id, new_hash, end_logins=False)
        role = Role(user.role)
        caller = Principal(merchant, user.id, role, granted_scopes(scope, role))
        refresh = _new_refresh_token(merchant)
        await self._logins.create(merchant, user.id, sorted(caller.scopes), _hash(refresh))
        return GrantedTokens(self._issue(caller, FIRST_PARTY), refresh)

    async def refresh(self, token: str) -> GrantedTokens:
        """Exchange a refresh token for new tokens.

        Raises:
            GrantRefused: `invalid_grant`.
        """
        merchant = _merchant_of(token)
        new = _new_refresh_token(merchant)
        login = await self._logins.rotate(merchant, _hash(token), _hash(new))
        role = await self._users.role_of(merchant, login.user_id) if login else None
        if login is None or role is None:
            raise GrantRefused("invalid_grant", "The refresh token is not good any more. Log in again.")
        scopes = granted_scopes(" ".join(login.scopes), Role(role))
        caller = Principal(merchant, login.user_id, Role(role), scopes)
        return GrantedTokens(self._issue(caller, FIRST_PARTY), new)

    async def client_credentials(
        self, merchant: str, client_id: str, secret: str, *, scope: str | None, address: str
    ) -> GrantedTokens:
        """Issue a token to a service.

        Raises:
            GrantRefused: `invalid_client`.
            Problem: `too_many_logins`.
        """
        await self._throttle.check(merchant, client_id, address)
        known = await self._users.client_secret(merchant, client_id)
        if not hmac.compare_digest(_hash(secret), known or bytes(32)):
            await self._throttle.failed(merchant, client_id, address)
            raise GrantRefused("invalid_client", "The client or its secret is wrong.")
        caller = Principal(merchant, client_id, Role.SERVICE, granted_scopes(scope, Role.SERVICE))
        return GrantedTokens(self._issue(caller, client_id), None)

    async def log_out(self, token: str) -> None:
        """Revoke the login of a refresh token; an unknown one is ignored."""
        await self._logins.revoke(_merchant_of(token), _hash(token))

    def _issue(self, caller: Principal, client_id: str) -> AccessToken:
        return issue(self._ring, self._rules, caller, client_id=client_id, now=int(self._unix_time()))


def new_secret() -> tuple[str, bytes]:
    """A client secret and the hash that is stored."""
    secret = secrets.token_urlsafe(32)
    return secret, _hash(secret)


def _new_refresh_token(merchant: str) -> str:
    return f"{merchant}.{secrets.token_urlsafe(32)}"


def _merchant_of(token: str) -> str:
    """The merchant in front of the dot; a namespace's name contains none."""
    return token.partition(".")[0]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class AccountServices:
    """What the routes for accounts work with.

    Args:
        merchant: Whose accounts a request means that names no merchant.
    """

    merchant: str
    trusted_proxies: Networks
    users: UserStore
    logins: LoginStore
    passwords: Passwords
    ring: KeyRing
    throttle: LoginThrottle
    grants: Grants
