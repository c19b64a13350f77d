"""axe-core finds nothing on any page, dark or light, wide or narrow; and pictures for the documents."""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from .shop import Shop, axe_violations
from .test_in_browser import ISLAND, place_all

pytestmark = pytest.mark.integration

PICTURES = Path(__file__).parents[2] / "docs" / "console"


async def every_page(shop: Shop) -> list[str]:
    """Paths of pages with something on them, one of each kind."""
    stalled = await shop.place(paymentMethod="pm_sandbox_refundFails", address=ISLAND)
    delivered = await shop.place(reference="2026-11-0042")
    await shop.until_phase(delivered, "Delivered")
    customer = (await shop.email("customer")).partition("@")[0]
    await shop.merchant.pool.execute(
        "UPDATE users SET email = 'bounced-' || id || '@example.test' WHERE merchant = $1 AND id = $2",
        shop.merchant.name, customer,
    )  # fmt: skip
    bounced = await shop.place(customer=customer)
    await shop.until_phase(bounced, "Delivered")
    await shop.until(shop.client.operations.failed_messages, lambda page: page["items"] != [])
    await shop.until(lambda: shop.client.orders.list(stalled=True), lambda page: page["items"] != [])
    return [
        "", "orders", "orders?phase=Returned", f"orders/{delivered}", f"orders/{stalled}",
        f"orders/{delivered}/refund", f"orders/{stalled}/settle", f"orders/{stalled}/retry", "orders/o-none",
        "stock", "stock/TEA-EARL-GREY-100", "products", "products/-/new", "products/TEA-EARL-GREY-100",
        "prices", "messages", "accounts", "actions",
    ]  # fmt: skip


async def settle(shop: Shop) -> None:
    """Leave nothing that waits for a person."""
    for order in (await shop.client.orders.list(stalled=True))["items"]:
        await shop.client.orders.settle(order["id"], reason="test", reference="T-1")
        await shop.until_phase(order["id"], "Failed")


async def test_no_page_violates_a_rule(shop: Shop) -> None:
    await place_all(shop, 5)
    paths = await every_page(shop)
    found: dict[str, Any] = {}
    async with shop.signed_in() as page:
        for path in paths:
            await page.goto(f"/console/{path}")
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
                if violations := await axe_violations(page):
                    found[f"{path} {scheme}"] = violations
        await page.set_viewport_size({"width": 360, "height": 740})
        for path in paths:
            await page.goto(f"/console/{path}")
            if violations := await axe_violations(page):
                found[f"{path} narrow"] = violations
            # Nothing but tables in their own frame is wider than a phone.
            if await page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                found[f"{path} wide"] = True
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        found |= {"sign-in": violations} if (violations := await axe_violations(page)) else {}
    await settle(shop)
    assert found == {}


@pytest.mark.skipif(not os.environ.get("ORDERPLANE_WRITE_PICTURES"), reason="writes docs/console")
async def test_pictures_for_the_documents(shop: Shop) -> None:
    await place_all(shop, 60)
    paths = await every_page(shop)
    stalled = next(path for path in paths if path.endswith("/settle")).removesuffix("/settle")
    delivered = next(path for path in paths if path.endswith("/refund")).removesuffix("/refund")
    PICTURES.mkdir(exist_ok=True)

    async def take(page: Page, path: str, name: str) -> None:
        await page.goto(f"/console/{path}")
        if path == "orders":
            await page.locator("body[data-live=on]").wait_for()
        await page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")

    size = {"width": 1280, "height": 860}
    async with shop.signed_in(viewport=size, timezone_id="UTC", locale="en-GB") as page:
        for path, name in (
            ("", "board"), ("orders", "orders"), (delivered, "order"), (stalled, "stalled"),
            ("stock/TEA-EARL-GREY-100", "stock"), ("actions", "actions"),
        ):  # fmt: skip
            await take(page, path, name)
        await page.emulate_media(color_scheme="dark")
        await take(page, "", "board-dark")
        await page.set_viewport_size({"width": 390, "height": 844})
        await take(page, "orders", "orders-phone")
    await settle(shop)
