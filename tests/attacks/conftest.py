"""The gateway of the running plane, as an attacker sees it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from orderplane.gateway.principal import Role

from ..support.plane import Caller, Merchant


@dataclass(frozen=True, slots=True)
class Target:
    """A merchant's gateway, and a customer and somebody of the shop to attack it as."""

    merchant: Merchant
    customer: Caller
    seller: Caller
    http: httpx.AsyncClient

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """As the customer."""
        return await self.send("POST", path, body, self.customer, **headers)

    async def send(self, method: str, path: str, body: Any, caller: Caller, **headers: str) -> httpx.Response:
        """Bytes are sent as they are."""
        headers = {"Idempotency-Key": "k", "Content-Type": "application/json"} | headers
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return await self.http.request(method, path, headers=caller.headers | headers, **content)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection."""
        return await asyncio.open_connection(self.http.base_url.host, self.http.base_url.port)


@pytest.fixture
async def target(merchant: Merchant) -> AsyncIterator[Target]:
    customer, seller = await merchant.caller(Role.CUSTOMER), await merchant.caller(Role.MERCHANT)
    async with httpx.AsyncClient(
        base_url=merchant.plane.url("gateway"), timeout=30, headers=merchant.from_own_address
    ) as http:
        yield Target(merchant, customer, seller, http)


def code_of(answer: httpx.Response) -> tuple[int, str | None]:
    """Status and code of a problem."""
    return answer.status_code, answer.json().get("code")
