"""Callers: their roles and scopes, and how a route requires them."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Annotated, Protocol

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from orderplane.crds.actors import PSEUDONYM, ActorKind, pseudonym
from orderplane.crds.meta import CUSTOMER_PATTERN
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.traffic.rate_limits import rate_limit_of


class Role(StrEnum):
    """The role of a caller at one merchant. That is also so for ADMIN: a token is valid for one namespace."""

    CUSTOMER = "customer"
    MERCHANT = "merchant"
    ADMIN = "admin"
    SERVICE = "service"


class Scope(StrEnum):
    """What a route requires of a token; `meaning` is for the OpenAPI document."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Scope":
        scope = str.__new__(cls, value)
        scope._value_ = value
        scope.meaning = meaning
        return scope

    PROFILE = "profile", "Read and change the caller's own account."
    ORDERS_READ = "orders:read", "Read orders: a customer's own, for others all of the merchant."
    ORDERS_ADDRESS = "orders:address", "Read where orders go to; of those that `orders:read` allows."
    ORDERS_WRITE = "orders:write", "Place and cancel orders."
    REFUNDS_WRITE = "refunds:write", "Give money back for orders of the merchant that were sold."
    PRODUCTS_READ = "products:read", "Read products, prices and price rules, and have orders quoted."
    PRODUCTS_WRITE = "products:write", "Make, change and archive products, set price rules."
    INVENTORY_READ = "inventory:read", "Read stock, its movements and reservations."
    INVENTORY_WRITE = "inventory:write", "Reserve and release stock, adjust and recount it."
    WEBHOOKS_READ = "webhooks:read", "Read webhook endpoints and what became of their deliveries."
    WEBHOOKS_WRITE = (
        "webhooks:write", "Register and change webhook endpoints, read their secrets, send events again.",
    )  # fmt: skip
    OPERATIONS_READ = "operations:read", "Read how the shop runs: figures, failed messages, who did what."
    OPERATIONS_WRITE = "operations:write", "Retry and settle orders of the merchant, replay messages."
    USERS_ADMIN = "users:admin", "Read, make and end users and services of the merchant."


_CUSTOMER = frozenset(
    {Scope.PROFILE, Scope.ORDERS_READ, Scope.ORDERS_ADDRESS, Scope.ORDERS_WRITE, Scope.PRODUCTS_READ}
)
_MERCHANT = _CUSTOMER | {
    Scope.REFUNDS_WRITE,
    Scope.PRODUCTS_WRITE,
    Scope.INVENTORY_READ,
    Scope.INVENTORY_WRITE,
    Scope.WEBHOOKS_READ,
    Scope.WEBHOOKS_WRITE,
    Scope.OPERATIONS_READ,
    Scope.OPERATIONS_WRITE,
}

SCOPES_OF = {
    Role.CUSTOMER: _CUSTOMER,
    Role.MERCHANT: _MERCHANT,
    Role.ADMIN: _MERCHANT | {Scope.USERS_ADMIN},
    Role.SERVICE: _MERCHANT - {Scope.PROFILE},
}
"""All scopes that each role may have; a token may carry fewer."""


_CUSTOMER_ID = re.compile(CUSTOMER_PATTERN)


def customer_of(subject: str) -> str:
    """The customer that a subject of an OpenID Connect issuer is, such as `auth0|5f7c8ec7`.

    A subject that can be a customer's id is one. Any other is `sub-` and 128 bits of its SHA-256: no two are
    the same customer, and one that is an e-mail address is not shown in resources and events.
    """
    is_plain = _CUSTOMER_ID.fullmatch(subject) and not PSEUDONYM.fullmatch(subject)
    return subject if is_plain else pseudonym(subject)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller of one merchant.

    Args:
        merchant: The namespace that the token is valid for.
        name: The id of the user or client. Idempotency keys are separate for each.
        login: The id of the login that the token comes from; a service has none.
        logged_in_at: Unix time at which the password of that login was checked.
    """

    merchant: str
    name: str
    role: Role = Role.CUSTOMER
    scopes: frozenset[Scope] = field(default=_CUSTOMER)
    login: str | None = None
    logged_in_at: float | None = None

    @property
    def customer(self) -> str | None:
        """The customer whose orders the caller is limited to; None if not limited."""
        return customer_of(self.name) if self.role is Role.CUSTOMER else None

    @property
    def actor(self) -> str:
        """The caller as in `crds.actors`."""
        kind = ActorKind.SERVICE if self.role is Role.SERVICE else ActorKind.USER
        return f"{kind}:{customer_of(self.name)}"


RECENT_LOGIN_SECONDS = 600
"""How old a login may be for what cannot be undone: an access token that was stolen later is not enough."""


class TokenRefused(Exception):  # noqa: N818
    """The token is not accepted; the message may be sent to the client."""


class Authentication(Protocol):
    """Finds the caller of a token."""

    async def caller(self, token: str) -> Principal:
        """The caller that the token was issued to.

        Raises:
            TokenRefused: the token is not accepted; the message says why.
            Problem, Transient: it cannot be checked now.
        """
        ...


_SCHEME = HTTPBearer(bearerFormat="JWT", description="From `POST /api/auth/login`.", auto_error=False)


def allowed(*scopes: Scope) -> Callable[..., Awaitable[Principal]]:
    """A FastAPI dependency that gives the caller, whose token must have all of `scopes` (RFC 6750).

    Only the bearer token identifies the caller; no other header is read.

    Raises:
        Problem: `unauthenticated`, `invalid_token`, `insufficient_scope`, `rate_limited`.
    """

    async def principal(
        request: Request,
        credentials: Annotated[
            HTTPAuthorizationCredentials | None,
            Security(_SCHEME, scopes=[scope.value for scope in scopes]),
        ],
    ) -> Principal:
        if credentials is None:
            raise Problem(
                "unauthenticated",
                "Send an access token as Authorization: Bearer. POST /api/auth/login gives one.",
                headers={"WWW-Authenticate": 'Bearer realm="orderplane"'},
            )
        authentication: Authentication = request.app.state.services.authentication
        try:
            caller = await authentication.caller(credentials.credentials)
        except TokenRefused as refusal:
            raise invalid_token(str(refusal)) from refusal
        if rate_limit := rate_limit_of(request.scope):
            await rate_limit.count_user(caller.merchant, caller.name, is_shop=caller.customer is None)
        check_scopes(caller, *scopes)
        return caller

    return principal


def token_check(request: Request) -> Callable[[], Awaitable[Principal]]:
    """A function that finds the caller of a request once more; it raises as `Authentication.caller` does."""
    authentication: Authentication = request.app.state.services.authentication
    _, token = get_authorization_scheme_param(request.headers["Authorization"])
    return partial(authentication.caller, token)


def invalid_token(detail: str) -> Problem:
    """The problem for a token that is not accepted (any more)."""
    challenge = 'Bearer realm="orderplane", error="invalid_token"'
    return Problem("invalid_token", detail, headers={"WWW-Authenticate": challenge})


def check_scopes(caller: Principal, *scopes: Scope) -> None:
    """Require that the caller's token has all of `scopes`.

    Raises:
        Problem: `insufficient_scope`.
    """
    if missing := [scope.value for scope in scopes if scope not in caller.scopes]:
        challenge = f'Bearer realm="orderplane", error="insufficient_scope", scope="{" ".join(missing)}"'
        raise Problem(
            "insufficient_scope",
            f"The token lacks {', '.join(missing)}.",
            headers={"WWW-Authenticate": challenge},
        )


def check_recent_login(caller: Principal, unix_time: float) -> None:
    """Require that the caller's password was checked within `RECENT_LOGIN_SECONDS`.

    Source of the challenge: RFC 9470, section 3.

    Raises:
        Problem: `login_too_old`.
    """
    if caller.logged_in_at is None or unix_time - caller.logged_in_at > RECENT_LOGIN_SECONDS:
        challenge = (
            'Bearer realm="orderplane", error="insufficient_user_authentication", '
            f'max_age="{RECENT_LOGIN_SECONDS}"'
        )
        raise Problem(
            "login_too_old",
            "This cannot be undone. Log in with the password again, and repeat it within "
            f"{RECENT_LOGIN_SECONDS // 60} minutes.",
            headers={"WWW-Authenticate": challenge},
        )
