"""A shop whose people use the console in a browser."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, expect

from orderplane.client.client import Client
from orderplane.client.transport import connect
from orderplane.gateway.principal import Role

from ..support.plane import ORDER, PASSWORD, Caller, Merchant

SECONDS = 30

expect.set_options(timeout=SECONDS * 1000)


class Token:
    """An access token that somebody has already."""

    def __init__(self, caller: Caller) -> None:
        self._token = caller.token

    async def token(self, *, rejected: str | None = None) -> str:
        assert rejected is None
        return self._token


@dataclass(frozen=True)
class Shop:
    """A merchant with its console, and whoever asks its API in the background."""

    merchant: Merchant
    browser: Browser
    client: Client

    @property
    def url(self) -> str:
        """What browsers have before /console/."""
        return self.merchant.plane.url("console")

    @asynccontextmanager
    async def context(self, **options: Any) -> AsyncIterator[BrowserContext]:
        """A browser profile of its own; what goes wrong on its pages fails the test."""
        context = await self.browser.new_context(base_url=self.url, **options)
        context.set_default_timeout(SECONDS * 1000)
        wrong: list[str] = []
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        context.on(
            "console",
            # What a server refuses is logged as an error, too; tests look at the page that says so.
            lambda said: (
                wrong.append(said.text)
                if said.type == "error" and "Failed to load resource" not in said.text
                else None
            ),
        )
        try:
            yield context
        finally:
            await context.close()
        assert wrong == []

    async def email(self, role: str) -> str:
        """The address of somebody new with that role."""
        caller = await self.merchant.caller(Role(role))
        return f"{caller.id}@example.test"

    async def sign_in(self, page: Page, role: str = "admin", *, email: str | None = None) -> None:
        """As somebody new, or as whose address is given."""
        await page.goto("/console/sign-in")
        await page.get_by_label("Mail address").fill(email or await self.email(role))
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_text("Another shop").click()
        await page.get_by_label("Merchant").fill(self.merchant.name)
        await page.get_by_role("button", name="Sign in").click()

    @asynccontextmanager
    async def signed_in(self, role: str = "admin", **options: Any) -> AsyncIterator[Page]:
        """The board, as somebody who has just signed in."""
        async with self.context(**options) as context:
            page = await context.new_page()
            await self.sign_in(page, role)
            await page.get_by_role("heading", name="Board").wait_for()
            yield page

    async def place(self, **changes: Any) -> str:
        """Place an order; answers its id."""
        body = {**ORDER, "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}], "customer": "c-1", **changes}
        return (await self.client.orders.create(body, key=str(uuid4())))["id"]

    async def until(self, read: Callable[[], Awaitable[Any]], is_right: Callable[[Any], bool]) -> Any:
        """Read until it is right."""
        async with asyncio.timeout(SECONDS * 2):
            while True:
                seen = await read()
                if is_right(seen):
                    return seen
                await asyncio.sleep(0.1)

    async def until_phase(self, order: str, phase: str) -> Any:
        """The order, once it is in that phase."""
        return await self.until(lambda: self.client.orders.get(order), lambda seen: seen["phase"] == phase)


@asynccontextmanager
async def shop_of(merchant: Merchant, browser: Browser) -> AsyncIterator[Shop]:
    """The shop of a merchant; its API is asked as a service."""
    caller = await merchant.caller(Role.SERVICE)
    async with connect(merchant.plane.url("gateway")) as transport:
        yield Shop(merchant, browser, Client(transport, tokens=Token(caller)))


async def axe_violations(page: Page) -> list[str]:
    """What axe-core finds on a page, by the rules of WCAG 2.2 AA and its own good practice."""
    found = (await Axe().run(page)).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {json.dumps([node['html'] for node in each['nodes']])[:600]}"
        for each in found
    ]
