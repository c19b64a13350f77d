"""Merchants for a test, with a token for each role, at one gateway."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.principal import SCOPES_OF, Principal, Role
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.price_rules import PriceRule

from ..support.price_rules import flat, set_price_rules
from .conftest import ISSUER, new_key, token_of

FREE = {"EUR": flat(), "JPY": flat(), "USD": flat()}
ROLES = (Role.CUSTOMER, Role.MERCHANT)


@dataclass(frozen=True, slots=True)
class Shop:
    """One merchant: `seller` runs the shop, `customer` shops there."""

    merchant: str
    seller: httpx.AsyncClient
    customer: httpx.AsyncClient

    async def sell(self, sku: str, amount: int = 890, currency: str = "EUR", **more: Any) -> httpx.Response:
        """Put a product up for sale."""
        body = product_of(sku, price={"amount": amount, "currency": currency}, **more)
        return await self.seller.post("/api/products", json=body)

    async def keyed(self, path: str, body: Any, key: str | None = None) -> httpx.Response:
        """What needs an Idempotency-Key, as the seller."""
        return await self.seller.post(path, json=body, headers={"Idempotency-Key": key or new_key()})

    async def recount(self, sku: str, on_hand: int, key: str | None = None) -> httpx.Response:
        """Say what was found on the shelf."""
        body = {"onHand": on_hand, "reason": "counted"}
        return await self.keyed(f"/api/inventory/{sku}/recounts", body, key)

    async def adjust(
        self, sku: str, delta: int, key: str | None = None, reason: str = "a delivery"
    ) -> httpx.Response:
        """Say what has come, or gone."""
        return await self.keyed(f"/api/inventory/{sku}/adjustments", {"delta": delta, "reason": reason}, key)

    async def reserve(
        self, *items: tuple[str, int], key: str | None = None, ttl: int = 900
    ) -> httpx.Response:
        """Have stock kept."""
        wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in items]
        return await self.keyed("/api/inventory/reserve", {"items": wanted, "ttlSeconds": ttl}, key)

    async def release(self, reservation: str) -> httpx.Response:
        """Give it back."""
        return await self.seller.post("/api/inventory/release", json={"reservation": reservation})

    async def level(self, sku: str) -> tuple[int, int]:
        """On hand, and reserved of it."""
        view = (await self.seller.get(f"/api/inventory/{sku}")).json()
        return view["onHand"], view["reserved"]


def product_of(sku: str, **more: Any) -> dict[str, Any]:
    """A good body."""
    price = {"amount": 890, "currency": "EUR"}
    return {"sku": sku, "name": "Something", "price": price, "weightGrams": 120, **more}


def code_of(answer: httpx.Response) -> tuple[int, str | None]:
    """The status, and the code where it is a problem."""
    return answer.status_code, answer.json().get("code") if answer.content else None


@asynccontextmanager
async def open_shop(
    plane: Plane,
    pool: Pool,
    url: str,
    merchant: str,
    *,
    issuer: str = ISSUER,
    rules: Mapping[str, PriceRule] = FREE,
) -> AsyncIterator[Shop]:
    """Let somebody of each role in, as if they had logged in, and set the price rules of currencies."""
    await set_price_rules(pool, merchant, **rules)
    async with AsyncExitStack() as stack:
        clients = {}
        for role in ROLES:
            name = f"u-{role}"
            await pool.execute(
                "INSERT INTO users (merchant, id, email, role, password_hash) VALUES ($1, $2, $3, $4, '')",
                merchant, name, f"{role}@{merchant}.test", role.value,
            )  # fmt: skip
            token = token_of(plane, Principal(merchant, name, role, SCOPES_OF[role]), issuer=issuer)
            headers = {"Authorization": f"Bearer {token}"}
            client = httpx.AsyncClient(base_url=url, timeout=30, headers=headers)
            clients[role] = await stack.enter_async_context(client)
        yield Shop(merchant, clients[Role.MERCHANT], clients[Role.CUSTOMER])
