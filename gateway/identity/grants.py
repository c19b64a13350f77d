"""Accounts of our own: OAuth grants (RFC 6749, 4.3, 4.4 and 6), without HTTP."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from orderplane.gateway.http.client_address import Networks
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.identity.account_messages import AccountMessages
from orderplane.gateway.identity.authentication import AccountCache
from orderplane.gateway.identity.confirmations import Confirmations
from orderplane.gateway.identity.email_address import login_name, needs_smtputf8
from orderplane.gateway.identity.keyring import KeyRing
from orderplane.gateway.identity.login_store import Login, LoginStore
from orderplane.gateway.identity.login_throttle import Attempt, LoginThrottle
from orderplane.gateway.identity.message_limits import MessageLimits
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.tokens import AccessToken, TokenRules, granted_scopes, issue
from orderplane.gateway.identity.user_store import User, UserStore
from orderplane.gateway.principal import Principal, Role, Scope

FIRST_PARTY = "orderplane"
"""The `client_id` of users' tokens: users log in through one application, which is ours."""


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
        email = login_name(email)
        attempt = Attempt(merchant, email, address)
        await self._throttle.check(attempt)
        found = await self._users.credentials(merchant, email)
        is_right = await self._passwords.matches(password, found[1] if found else None)
        tokens = await self._log_in(merchant, *found, password, scope) if found and is_right else None
        if found is None or tokens is None:
            await self._throttle.failed(attempt)
            raise GrantRefused(
                "invalid_grant",
                "The address or the password is wrong, or the address is not confirmed yet: follow the link "
                "in the mail.",
            )
        await self._throttle.succeeded(merchant, found[0].id, address)
        return tokens

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
        return GrantedTokens(self._issue_to_user(merchant, login, Role(role), scopes), new)

    async def client_credentials(
        self, merchant: str, client_id: str, secret: str, *, scope: str | None
    ) -> GrantedTokens:
        """Issue a token to a service. Its secret is 256 random bits: guesses need no limit of their own.

        Raises:
            GrantRefused: `invalid_client`.
        """
        known = await self._users.client_secret(merchant, client_id)
        if not hmac.compare_digest(_hash(secret), known or bytes(32)):
            raise GrantRefused("invalid_client", "The client or its secret is wrong.")
        caller = Principal(merchant, client_id, Role.SERVICE, granted_scopes(scope, Role.SERVICE))
        return GrantedTokens(self._issue(caller, client_id), None)

    async def log_out(self, token: str) -> None:
        """Revoke the login of a refresh token; an unknown one is ignored."""
        await self._logins.revoke(_merchant_of(token), _hash(token))

    async def _log_in(
        self, merchant: str, user: User, checked: str, password: str, scope: str | None
    ) -> GrantedTokens | None:
        """Make a login for a right password; None if the user has another one by now."""
        new_hash = await self._passwords.hash(password) if self._passwords.is_outdated(checked) else None
        role = Role(user.role)
        scopes = granted_scopes(scope, role)
        refresh = _new_refresh_token(merchant)
        login = await self._logins.create(merchant, user.id, sorted(scopes), _hash(refresh), checked=checked)
        if login is None:
            return None
        if new_hash is not None:
            await self._users.rehash_password(merchant, user.id, new_hash, checked=checked)
        return GrantedTokens(self._issue_to_user(merchant, login, role, scopes), refresh)

    def _issue_to_user(
        self, merchant: str, login: Login, role: Role, scopes: frozenset[Scope]
    ) -> AccessToken:
        # On this clock, which will be asked how long ago it was.
        logged_in_at = self._unix_time() - login.age_seconds
        caller = Principal(merchant, login.user_id, role, scopes, str(login.id), logged_in_at)
        return self._issue(caller, FIRST_PARTY)

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
        takes_smtputf8: Whether mail can be sent to addresses that need SMTPUTF8.
    """

    merchant: str
    trusted_proxies: Networks
    takes_smtputf8: bool
    accounts: AccountCache
    messages: AccountMessages
    message_limits: MessageLimits
    confirmations: Confirmations
    users: UserStore
    logins: LoginStore
    passwords: Passwords
    ring: KeyRing
    throttle: LoginThrottle
    grants: Grants

    def check_mailable(self, email: str, pointer: str = "#/email") -> None:
        """Require that mail can be sent to a canonical address, before somebody relies on it.

        Raises:
            Problem: `validation_failed`.
        """
        if needs_smtputf8(email) and not self.takes_smtputf8:
            detail = "No mail can be sent from here to an address with letters beyond ASCII before the @."
            raise Problem(
                "validation_failed",
                "Correct the fields in `errors`.",
                errors=[{"pointer": pointer, "detail": detail}],
            )
