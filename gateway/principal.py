"""Who is asking, and what they may do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from fastapi import Request

from orderplane.gateway.http.problems import Problem


class Role(StrEnum):
    """What somebody is to a merchant. An ADMIN is one merchant's too: a token is good for one namespace."""

    CUSTOMER = "customer"
    MERCHANT = "merchant"
    ADMIN = "admin"
    SERVICE = "service"


class Scope(StrEnum):
    """What a route asks for."""

    PROFILE = "profile"
    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"
    PRODUCTS_READ = "products:read"
    PRODUCTS_WRITE = "products:write"
    INVENTORY_READ = "inventory:read"
    INVENTORY_WRITE = "inventory:write"
    USERS_ADMIN = "users:admin"


_CUSTOMER = frozenset({Scope.PROFILE, Scope.ORDERS_READ, Scope.ORDERS_WRITE, Scope.PRODUCTS_READ})
_MERCHANT = _CUSTOMER | {Scope.PRODUCTS_WRITE, Scope.INVENTORY_READ, Scope.INVENTORY_WRITE}

SCOPES_OF = {
    Role.CUSTOMER: _CUSTOMER,
    Role.MERCHANT: _MERCHANT,
    Role.ADMIN: _MERCHANT | {Scope.USERS_ADMIN},
    Role.SERVICE: _MERCHANT - {Scope.PROFILE},
}
"""The most that each role can be given; a token may carry less."""


@dataclass(frozen=True, slots=True)
class Principal:
    """One caller of one merchant.

    Args:
        merchant: The namespace that the token is good for.
        name: The user's or client's id. Idempotency keys are theirs alone.
    """

    merchant: str
    name: str
    role: Role = Role.CUSTOMER
    scopes: frozenset[Scope] = field(default=_CUSTOMER)

    @property
    def customer(self) -> str | None:
        """Whose orders alone they may see and place; None where all of the merchant's."""
        return self.name if self.role is Role.CUSTOMER else None


async def authenticated(request: Request) -> Principal:
    """The caller; the fixed one until identities exist, which is why the door opens on loopback only."""
    return Principal(request.app.state.settings.merchant, "demo", Role.ADMIN, SCOPES_OF[Role.ADMIN])


def allowed(*scopes: Scope) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that answers the caller where their token has every one of `scopes`.

    Raises:
        Problem: `insufficient_scope`.
    """

    async def principal(request: Request) -> Principal:
        caller = await authenticated(request)
        if missing := [scope for scope in scopes if scope not in caller.scopes]:
            raise Problem("insufficient_scope", f"The token lacks {', '.join(missing)}.")
        return caller

    return principal
