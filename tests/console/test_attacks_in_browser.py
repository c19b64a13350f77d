"""What other pages, and texts of strangers, can do to somebody who is signed in: nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from playwright.async_api import expect

from orderplane.console.security import HEADERS

from ..support.plane import ORDER
from .shop import Shop

pytestmark = pytest.mark.integration

HOSTILE = "<img src=x onerror=\"window.hacked='yes'\">"


@asynccontextmanager
async def foreign_page(text: str) -> AsyncIterator[int]:
    """A page of another origin; gives its port."""

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_another_page_cannot_send_forms(shop: Shop, host: str) -> None:
    # A port is no other site, so the first one is sent with cookies; the second is another site's.
    order = await shop.place()
    form = (
        f"<form id=f method=post action='{shop.url}/console/orders/{order}/cancel'><input name=csrf value=x>"
        "</form><script>document.getElementById('f').submit()</script>"
    )
    async with foreign_page(form) as port, shop.signed_in("merchant") as page:
        await page.goto(f"http://{host}:{port}/", wait_until="commit")
        await page.wait_for_url(f"{shop.url}/console/**")
        said = "not from your session" if host == "127.0.0.1" else "Sign in"
        await expect(page.locator("main")).to_contain_text(said)
        assert (await shop.client.orders.get(order))["cancelRequested"] is False
    await shop.until_phase(order, "Delivered")


async def test_a_form_needs_the_token_of_its_session(shop: Shop) -> None:
    async with shop.signed_in("merchant") as page, shop.signed_in("merchant") as other:
        theirs = await other.locator("input[name=csrf]").first.get_attribute("value")
        for token in ("", "x", theirs):
            answer = await page.context.request.post(
                "/console/stock/TEA-SENCHA-100",
                form={"csrf": token or "", "what": "recount", "onHand": "1", "reason": "x", "key": "k"},
                headers={"Sec-Fetch-Site": "same-origin"},
            )
            assert answer.status == 403
        # With its own it would have been done: this is no test of something else.
        own = await page.locator("input[name=csrf]").first.get_attribute("value")
        answer = await page.context.request.post(
            "/console/stock/TEA-SENCHA-100",
            form={"csrf": own or "", "what": "recount", "onHand": "999", "reason": "x", "key": "k"},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert answer.status == 200
        assert (await shop.client.inventory.get("TEA-SENCHA-100"))["onHand"] == 999


async def test_nobody_is_signed_in_by_another_page(shop: Shop) -> None:
    email = await shop.email("merchant")
    form = (
        f"<form id=f method=post action='{shop.url}/console/sign-in'><input name=email value={email}>"
        "<input name=password value='correct horse battery'><input name=token value=x></form>"
        "<script>document.getElementById('f').submit()</script>"
    )
    async with foreign_page(form) as port, shop.context() as context:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
        await page.wait_for_url(f"{shop.url}/console/**")
        await expect(page.get_by_role("alert")).to_contain_text("Try again")
        assert "orderplane" not in {cookie["name"] for cookie in await context.cookies()}


async def test_a_session_that_somebody_planted_is_not_taken(shop: Shop) -> None:
    async with shop.context() as context:
        planted = {"name": "orderplane", "value": "planted-by-somebody", "url": shop.url}
        await context.add_cookies([planted])  # type: ignore[list-item]
        page = await context.new_page()
        await shop.sign_in(page, "merchant")
        await page.get_by_role("heading", name="Board").wait_for()
        (cookie,) = [each for each in await context.cookies() if each["name"] == "orderplane"]
        assert cookie["value"] != "planted-by-somebody"
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
        assert await page.evaluate("document.cookie") == ""
        # Whoever signs in again has a new one, and the one before is nothing any more.
        await shop.sign_in(page, "merchant")
        await page.get_by_role("heading", name="Board").wait_for()
        (newer,) = [each for each in await context.cookies() if each["name"] == "orderplane"]
        assert newer["value"] != cookie["value"]
        old = await context.request.get(
            "/console/orders", headers={"Cookie": f"orderplane={cookie['value']}"}, max_redirects=0
        )
        assert old.status == 303
    async with shop.context() as context:
        await context.add_cookies([planted])  # type: ignore[list-item]
        page = await context.new_page()
        await page.goto("/console/")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_the_console_is_in_no_frame(shop: Shop) -> None:
    text = f"<iframe id=frame src='{shop.url}/console/'></iframe>"
    async with foreign_page(text) as port:
        context = await shop.browser.new_context(base_url=shop.url)
        try:
            page = await context.new_page()
            await shop.sign_in(page, "merchant")
            await page.get_by_role("heading", name="Board").wait_for()
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            await page.goto(f"http://127.0.0.1:{port}/")
            frame = page.frames[1]
            assert await frame.get_by_role("heading", name="Board").count() == 0
            assert any("frame-ancestors" in line for line in said), said
        finally:
            await context.close()


async def test_texts_of_strangers_are_only_text(shop: Shop) -> None:
    await shop.client.products.create(
        {
            "sku": "HOSTILE", "name": HOSTILE, "description": HOSTILE, "weightGrams": 10,
            "price": {"amount": 500, "currency": "EUR"},
        }
    )  # fmt: skip
    await shop.client.inventory.recount("HOSTILE", 10, reason=HOSTILE, key="hostile")
    await shop.client.inventory.adjust("HOSTILE", -1, reason=HOSTILE, key="hostile-2")
    customer = (await shop.email("customer")).partition("@")[0]
    await shop.merchant.pool.execute(
        "UPDATE users SET name = $3 WHERE merchant = $1 AND id = $2", shop.merchant.name, customer, HOSTILE
    )
    order = await shop.place(
        items=[{"sku": "HOSTILE", "quantity": 1}],
        customer=customer,
        reference=HOSTILE,
        metadata={"note": HOSTILE},
        address={**ORDER["address"], "name": HOSTILE, "line1": HOSTILE},
    )
    await shop.until_phase(order, "Delivered")
    async with shop.signed_in() as page:
        for path in (
            "orders", f"orders/{order}", f"orders/{order}/refund", "products", "products/HOSTILE",
            "stock/HOSTILE", "accounts", "actions", "actions?object=" + HOSTILE, "orders?customer=" + HOSTILE,
            "orders/" + HOSTILE.replace("/", ""), "products?q=" + HOSTILE,
        ):  # fmt: skip
            await page.goto(f"/console/{path}")
            assert "<img src=x" not in await page.content(), path
            assert await page.evaluate("window.hacked") is None, path
        await page.goto(f"/console/orders/{order}")
        for place in (".facts", "main"):
            await expect(page.locator(place).first).to_contain_text(HOSTILE)
        # Also what comes in while one looks.
        await page.goto("/console/orders")
        await page.locator("body[data-live=on]").wait_for()
        await page.mouse.move(1, 1)
        await shop.place(reference=HOSTILE + "2")
        await expect(page.locator("#rows tr").first).to_contain_text(HOSTILE + "2")
        assert await page.evaluate("window.hacked") is None


async def test_a_script_that_got_into_a_page_would_not_run(shop: Shop) -> None:
    context = await shop.browser.new_context(base_url=shop.url)
    try:
        page = await context.new_page()
        await page.goto("/console/sign-in")
        await page.evaluate(
            """async () => {
                const script = document.createElement("script");
                script.textContent = "window.hacked = 'yes'";
                const image = document.createElement("img");
                image.setAttribute("onerror", "window.hacked = 'yes'");
                image.src = "/none";
                const failed = new Promise(done => image.addEventListener("error", done));
                document.body.append(script, image);
                await failed;
            }"""
        )
        assert await page.evaluate("window.hacked") is None
    finally:
        await context.close()


async def test_every_answer_has_the_headers(shop: Shop) -> None:
    async with shop.context() as context:
        page = await context.new_page()
        await page.goto("/console/sign-in")
        sheet = await page.locator("link[rel=stylesheet]").get_attribute("href")
        assert sheet is not None
        for path in ("/console/sign-in", "/console/orders", sheet, "/console/nothing", "/nothing", "/"):
            answer = await context.request.get(path, max_redirects=0)
            for name, value in HEADERS.items():
                assert answer.headers[name.lower()] == value, (path, name)
            is_kept = "immutable" in answer.headers.get("cache-control", "")
            assert is_kept is (path == sheet)
