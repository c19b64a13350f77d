"""The console as people use it, in a browser."""

import asyncio
import re
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import Page, expect

from ..support.plane import ORDER
from .shop import Shop

pytestmark = pytest.mark.integration

ISLAND = {**ORDER["address"], "line1": "9 Island Walk"}
"""The carrier refuses it."""

SLOW: dict[str, Any] = {
    "paymentMethod": "pm_sandbox_timeoutBeforeCharge",
    "address": {**ORDER["address"], "line1": "1 Fog Street"},
}  # fmt: skip
"""Both providers leave the first request without an answer, so there is time to cancel."""


async def place_all(shop: Shop, number: int) -> None:
    """Orders of the kinds that the demo has."""
    declined, unserved = {"paymentMethod": "pm_card_chargeDeclined"}, {"address": ISLAND}
    kinds: list[dict[str, Any]] = [{}, declined, {}, unserved, {"reference": "2026-11-0042"}]
    places = asyncio.Semaphore(8)

    async def place(index: int) -> None:
        async with places:
            await shop.place(**kinds[index % len(kinds)])

    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(place(index))


async def move_away(page: Page) -> None:
    """Take the pointer off the table: rows come in only where nobody points at them."""
    await page.mouse.move(1, 1)


async def test_orders_come_in_and_move_while_one_looks(shop: Shop) -> None:
    async with shop.signed_in() as page:
        await page.get_by_role("link", name="Orders", exact=True).click()
        await page.locator("body[data-live=on]").wait_for()
        await expect(page.get_by_text("No order is like that.")).to_be_visible()
        await move_away(page)
        await page.evaluate("window.loadedOnce = true")
        await place_all(shop, 60)
        rows = page.locator("#rows tr")
        await expect(rows).to_have_count(60)
        await expect(page.locator("#rows .phase.Delivered").first).to_be_visible(timeout=30_000)
        await expect(page.locator("#rows .phase.Failed").first).to_be_visible()
        assert await page.evaluate("window.loadedOnce"), "nothing was loaded anew"

        # Under a pointer nothing moves: a new order waits for a click.
        await rows.nth(3).hover()
        under_pointer = await rows.nth(3).get_attribute("id")
        await shop.place(reference="while-pointing")
        await page.get_by_role("button", name="Show 1 new order").wait_for()
        assert await rows.nth(3).get_attribute("id") == under_pointer
        await page.get_by_role("button", name="Show 1 new order").click()
        await expect(rows.first).to_contain_text("while-pointing")

        # Filters, and the reason of one that failed.
        await page.get_by_text("Filters").click()
        await page.get_by_label("Phase").select_option("Failed")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.locator("#rows .phase:not(.Failed)")).to_have_count(0)
        await expect(page.locator("#rows .phase.Failed")).to_have_count(24)
        await page.get_by_label("Reason").fill("CardDeclined")
        await page.get_by_role("button", name="Filter").click()
        declined = page.locator("#rows tr", has_text="CardDeclined")
        await expect(declined.first).to_be_visible()
        assert await declined.count() == await page.locator("#rows tr").count()
        await declined.first.get_by_role("link").click()
        await expect(page.locator("#state")).to_contain_text("Failed")
        await expect(page.locator("#order")).to_contain_text("The bank declined the card.")
        await expect(page.locator(".story")).to_contain_text("Failed; everything was taken back")
        await expect(page.locator("#kubectl")).to_have_text(
            re.compile(rf"kubectl -n {shop.merchant.name} describe order o-\w+")
        )
        await expect(page.get_by_text("Nothing can be done about it any more.")).to_be_visible()


async def test_a_running_order_is_cancelled_and_undone(shop: Shop) -> None:
    async with shop.signed_in("merchant") as page:
        order = await shop.place(**SLOW)
        await page.goto("/console/orders")
        await page.get_by_label("Order id").fill(order)
        await page.get_by_role("button", name="Open").click()
        await page.get_by_role("link", name="Cancel…").click()
        await expect(page.locator("main")).to_contain_text("16.42 EUR is refunded or never taken")
        await expect(page.locator("#kubectl")).to_contain_text('{"spec":{"cancel":true}}')
        await page.get_by_role("button", name="Cancel the order").click()
        await expect(page.get_by_text("The cancellation is recorded")).to_be_visible()
        # The page goes on by itself.
        await expect(page.locator("#state .phase")).to_have_text("Cancelled")
        await expect(page.locator(".story")).to_contain_text("Undone: stock")
        await expect(page.locator(".story")).to_contain_text("by user:u-")
        await page.get_by_role("link", name="Who did what to this order").click()
        await expect(page.locator("tbody tr")).to_contain_text("order.cancel")


async def test_several_are_cancelled_at_once(shop: Shop) -> None:
    async with shop.signed_in("merchant") as page:
        orders = [await shop.place(**SLOW) for _ in range(3)]
        await page.goto("/console/orders")
        for order in orders[:2]:
            await page.get_by_label(f"Select {order}").check()
        await page.get_by_role("button", name="Cancel the selected…").click()
        await expect(page.get_by_role("heading", name="Cancel 2 orders?")).to_be_visible()
        assert (await shop.client.orders.get(orders[0]))["cancelRequested"] is False
        await page.get_by_role("button", name="Cancel 2 orders").click()
        await expect(page.get_by_text("2 of 2 orders are cancelled.")).to_be_visible()
        for order in orders[:2]:
            await shop.until_phase(order, "Cancelled")
    await shop.until_phase(orders[2], "Delivered")


async def test_a_stalled_order_says_what_to_do_and_is_settled(shop: Shop) -> None:
    order = await shop.place(paymentMethod="pm_sandbox_refundFails", address=ISLAND)
    async with shop.signed_in("merchant") as page:
        await page.goto(f"/console/orders/{order}")
        await expect(page.locator("#order")).to_contain_text("Pay the customer back")
        await page.get_by_role("link", name="Settled by hand…").click()
        await page.get_by_label("Reason").fill("card closed")
        await page.get_by_label("Reference").fill("SEPA-2026-118")
        await page.get_by_role("button", name="Record it").click()
        await expect(page.get_by_text("noted as paid back by hand")).to_be_visible()
        await expect(page.locator("#state .phase").first).to_have_text("Failed")


async def test_a_sold_order_is_refunded(shop: Shop) -> None:
    order = await shop.place()
    await shop.until_phase(order, "Delivered")
    async with shop.signed_in("merchant") as page:
        await page.goto(f"/console/orders/{order}/refund")
        await page.get_by_label("Reason").fill("damaged goods")
        await page.get_by_label("Amount in EUR").fill("5.00")
        await page.get_by_role("button", name="Refund").click()
        await expect(page.get_by_role("alert")).to_contain_text("one word that begins with a capital")
        # What was filled in is still there.
        await expect(page.get_by_label("Amount in EUR")).to_have_value("5.00")
        await page.get_by_label("Reason").fill("Damaged")
        await page.get_by_role("button", name="Refund").click()
        await expect(page.locator("#references ~ ul")).to_contain_text("5.00 EUR")


async def test_stock_is_recounted_with_a_reason(shop: Shop) -> None:
    async with shop.signed_in("merchant") as page:
        await page.get_by_role("link", name="Stock").click()
        await page.get_by_role("link", name="MUG-STONEWARE-BLUE").click()
        await page.get_by_label("Pieces that were counted").fill("38")
        await page.locator("#recount-reason").fill("water damage")
        await page.get_by_role("button", name="Set the count").click()
        await expect(page.get_by_role("status")).to_contain_text("1000000 became 38 on hand.")
        await expect(page.locator("tbody tr").first).to_contain_text("water damage")
        await page.get_by_label("Difference").fill("-50")
        await page.locator("#adjust-reason").fill("broken")
        await page.get_by_role("button", name="Adjust").click()
        await expect(page.get_by_role("alert")).to_contain_text("Only 38 are free")
        await page.goto("/console/actions?object=MUG-STONEWARE-BLUE")
        await expect(page.locator("tbody tr").first).to_contain_text("stock.recount")
        await expect(page.locator("tbody tr").first).to_contain_text("onHand: 1000000")


async def test_products_are_made_changed_and_archived(shop: Shop) -> None:
    async with shop.signed_in("merchant") as page:
        await page.goto("/console/products")
        await page.get_by_role("link", name="New product").click()
        await page.get_by_label("SKU").fill("BOWL-RAKU")
        await page.get_by_label("Name").fill("Bowl")
        await page.get_by_label("Price of one piece").fill("9,50")
        await page.get_by_label("Weight").fill("420")
        await page.get_by_role("button", name="Make it").click()
        await expect(page.get_by_role("alert")).to_contain_text("write it as 19.99")
        await page.get_by_label("Price of one piece").fill("9.50")
        await page.get_by_label("Prices in further currencies").fill("USD 9.90\nJPY 1450")
        await page.get_by_role("button", name="Make it").click()
        await expect(page.get_by_text("Bowl is made.")).to_be_visible()
        await page.goto("/console/products/BOWL-RAKU")
        await page.get_by_label("Prices in further currencies").fill("USD 10.00")
        await page.get_by_role("button", name="Save").click()
        product = await shop.client.products.get("BOWL-RAKU")
        assert (product["price"]["amount"], product["otherPrices"]) == (950, {"USD": 1000})
        await page.get_by_role("button", name="Archive it").click()
        await expect(page.get_by_text("It is not sold any more.")).to_be_visible()
        await page.get_by_role("button", name="Sell it again").click()
        await expect(page.get_by_text("It is sold again.")).to_be_visible()


async def test_a_message_that_failed_is_sent_again(shop: Shop) -> None:
    merchant, email = shop.merchant, await shop.email("customer")
    customer = email.partition("@")[0]
    move = "UPDATE users SET email = $3 || id || '@example.test' WHERE merchant = $1 AND id = $2"
    await merchant.pool.execute(move, merchant.name, customer, "bounced-")
    order = await shop.place(customer=customer)
    await shop.until_phase(order, "Delivered")
    await shop.until(
        shop.client.operations.failed_messages,
        lambda page: {"order.delivered"} <= {message["event"] for message in page["items"]},
    )
    await merchant.pool.execute(move, merchant.name, customer, "well-")
    async with shop.signed_in("merchant") as page:
        await page.get_by_role("link", name="Failed messages").click()
        row = page.locator("tbody tr", has_text="order.delivered")
        await expect(row).to_contain_text("RecipientRefused")
        await expect(row).to_contain_text("refuses the address")
        await row.get_by_role("button", name="Send again").click()
        await expect(page.get_by_role("status")).to_contain_text("is due again")
        await expect(page.locator("tbody tr", has_text="order.delivered")).to_have_count(0)
    await shop.until(
        lambda: shop.client.orders.messages(order),
        lambda page: ("order.delivered", "Sent") in {(it["event"], it["state"]) for it in page["items"]},
    )


async def test_admins_make_and_end_accounts_and_services(shop: Shop) -> None:
    async with shop.signed_in() as page:
        await page.get_by_role("link", name="Accounts").click()
        email = f"bea-{uuid4().hex[:8]}@example.test"
        await page.get_by_label("Mail address").fill(email)
        await page.get_by_label("First password").fill("correct horse battery")
        await page.get_by_role("button", name="Make the account").click()
        await expect(page.get_by_text("gets a mail")).to_be_visible()
        await page.get_by_role("button", name=f"Delete {email}").click()
        await expect(page.locator("main")).to_contain_text("This cannot be undone")
        await page.get_by_role("button", name="Delete it").click()
        await expect(page.get_by_text("The account is deleted.")).to_be_visible()
        await expect(page.get_by_text(email)).to_have_count(0)
        await page.locator("#service-name").fill("warehouse")
        await page.get_by_role("button", name="Make the service").click()
        await expect(page.get_by_text("warehouse can log in")).to_be_visible()
        secret = await page.locator("dt:has-text('client_secret') + dd").text_content()
        assert secret and len(secret) > 30
        await page.goto("/console/accounts")
        assert secret not in await page.content()
        await page.get_by_role("button", name="Revoke warehouse").click()
        await page.get_by_role("button", name="Revoke it").click()
        await expect(page.get_by_text("no access any more")).to_be_visible()


async def test_customers_get_nowhere_and_staff_not_to_accounts(shop: Shop) -> None:
    order = await shop.place()
    async with shop.context() as context:
        page = await context.new_page()
        await shop.sign_in(page, "customer")
        await expect(page.get_by_role("alert")).to_contain_text("not one of the shop's staff")
        paths = (
            "",
            "orders",
            f"orders/{order}",
            f"orders/{order}/cancel",
            "stock/TEA-SENCHA-100",
            "messages",
        )
        for path in paths:
            await page.goto(f"/console/{path}")
            await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        for path in ("orders/selected", f"orders/{order}/cancel", "stock/TEA-SENCHA-100", "messages"):
            answer = await context.request.post(f"/console/{path}", form={"what": "cancel", "order": order})
            assert "/console/sign-in" in answer.url
    await shop.until_phase(order, "Delivered")
    async with shop.signed_in("merchant") as page:
        await expect(page.get_by_role("link", name="Accounts")).to_have_count(0)
        answer = await page.goto("/console/accounts")
        assert answer is not None and answer.status == 403
        await expect(page.get_by_role("alert")).to_contain_text("users:admin")


async def test_wrong_passwords_and_the_way_back(shop: Shop) -> None:
    async with shop.context() as context:
        page = await context.new_page()
        await page.goto("/console/orders?phase=Failed")
        await page.get_by_label("Mail address").fill("nobody@example.test")
        await page.get_by_label("Password").fill("wrong horse battery")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.get_by_label("Mail address")).to_have_value("nobody@example.test")
        assert "wrong horse" not in await page.content()
        await shop.sign_in(page, "merchant")
        await page.get_by_role("heading", name="Board").wait_for()
        await page.get_by_role("button", name="Sign out").click()
        await page.goto("/console/orders")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_without_scripts_everything_can_be_read(shop: Shop) -> None:
    order = await shop.place(reference="no-script")
    await shop.until_phase(order, "Delivered")
    async with shop.signed_in("merchant", java_script_enabled=False, timezone_id="Asia/Tokyo") as page:
        await expect(page.locator(".figure").first).to_be_visible()
        await page.goto("/console/orders")
        row = page.locator("#rows tr", has_text="no-script")
        await expect(row).to_contain_text("UTC")
        await expect(page.locator("[data-script]").first).to_be_hidden()
        await row.get_by_role("link").click()
        await expect(page.locator(".story")).to_contain_text("Delivered")
        for path in ("stock", "products", "prices", "messages", "actions"):
            answer = await page.goto(f"/console/{path}")
            assert answer is not None and answer.status == 200


async def test_times_are_those_of_the_viewer(shop: Shop) -> None:
    order = await shop.place()
    async with shop.signed_in("merchant", timezone_id="Asia/Tokyo", locale="en-GB") as page:
        await page.goto(f"/console/orders/{order}")
        time = page.locator(".facts time").first
        await expect(time).to_have_attribute("data-local", "")
        machine = await time.get_attribute("datetime")
        expected = await page.evaluate(
            "at => new Intl.DateTimeFormat('en-GB', {timeZone: 'Asia/Tokyo', hour: '2-digit', "
            "minute: '2-digit', second: '2-digit'}).format(new Date(at))",
            machine,
        )
        await expect(time).to_contain_text(expected)
        # And those that are asked for.
        await page.goto("/console/orders")
        await page.get_by_text("Filters").click()
        await page.get_by_label("Placed from").fill("2026-01-31T12:00")
        await page.get_by_role("button", name="Filter").click()
        assert "after=2026-01-31T03%3A00%3A00.000Z" in page.url
        await expect(page.get_by_label("Placed from")).to_have_value("2026-01-31T12:00")


async def test_by_keyboard_alone(shop: Shop) -> None:
    async with shop.signed_in("merchant") as page:
        await page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.get_by_role("link", name="Orders", exact=True).focus()
        outline = "document.activeElement && getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(outline) == "solid"
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Orders").wait_for()
