"""Replicas that keep the catalogue, and a real PostgreSQL that changes it, forgets to tell, and hangs up."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg
import pytest

from orderplane.gateway.products import catalogue as rules
from orderplane.gateway.products.availability import Availability
from orderplane.gateway.products.catalogue import Catalogue
from orderplane.gateway.products.reads import ProductReads
from orderplane.ledgers.postgres.products import ProductSearch, ProductStore
from orderplane.ledgers.postgres.session import Pool

from ...support.database import own_database
from ..conftest import Behind, Gateway, order_of, running_gateway
from ..shops import code_of, open_shop
from .shelf import TEA, Door

pytestmark = pytest.mark.integration

SHOP, NEIGHBOUR = "shop", "neighbour"


@pytest.fixture
async def pool(plane: Any) -> AsyncIterator[Pool]:
    async with own_database(plane.postgres_dsn) as opened:
        await ProductStore(opened).add(SHOP, "TEA", TEA)
        yield opened


@asynccontextmanager
async def running_door(
    plane: Any, pool: Pool, *, is_listening: bool = True, max_bytes: int = 1_000_000
) -> AsyncIterator[Door]:
    """A replica that looks at the versions, and hears of changes unless it is deaf."""
    dsn = await dsn_of(plane, pool)
    store = ProductStore(pool)
    catalogue, availability = Catalogue(store, max_bytes=max_bytes), Availability(store)
    halves = [catalogue.watch(lambda: None)]
    if is_listening:
        halves.append(catalogue.listen(lambda: dsn, lambda: None))
    tasks = [asyncio.create_task(half) for half in halves]
    try:
        if is_listening:
            await until(lambda: is_listened_to(pool))
        yield Door(catalogue, availability, ProductReads(store, catalogue, availability))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await is_so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def is_listened_to(pool: Pool) -> bool:
    """Idle: while LISTEN runs, the statement is shown already, and what is notified then is missed."""
    return bool(
        await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN %' AND state = 'idle' AND datname = current_database()"
        )
    )


async def amount(door: Door, merchant: str = SHOP, sku: str = "TEA") -> int | None:
    product = (await door.reads.prices(merchant, [sku])).products.get(sku)
    return product.unit_amount if product else None


async def set_amount(pool: Pool, number: int, merchant: str = SHOP) -> None:
    """By hand, as no replica does."""
    await pool.execute("UPDATE products SET unit_amount = $2 WHERE merchant = $1", merchant, number)


@pytest.fixture
def credulous(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Replicas that trust their memory for an hour: they see only what they are told or look for."""
    monkeypatch.setattr(rules, "MAX_STALENESS_SECONDS", 3600.0)
    return monkeypatch


async def is_kept(door: Door) -> bool:
    await amount(door)
    return door.catalogue.prices(SHOP, ["TEA"]) is not None


async def test_a_change_is_heard_of(plane: Any, pool: Pool, credulous: pytest.MonkeyPatch) -> None:
    credulous.setattr(rules, "REFRESH_SECONDS", 3600.0)
    async with running_door(plane, pool) as door:
        await until(lambda: is_kept(door))
        await set_amount(pool, 1)
        await until(lambda: shows(door, 1))


async def shows(door: Door, number: int | None, merchant: str = SHOP) -> bool:
    return await amount(door, merchant) == number


@pytest.mark.usefixtures("credulous")
async def test_a_change_that_nobody_told_of_is_found(plane: Any, pool: Pool) -> None:
    async with running_door(plane, pool, is_listening=False) as door:
        await until(lambda: is_kept(door))
        await set_amount(pool, 1)
        await until(lambda: shows(door, 1))
        await pool.execute("DELETE FROM products")
        await until(lambda: shows(door, None))


async def test_after_its_connections_were_killed_it_hears_again(
    plane: Any, pool: Pool, credulous: pytest.MonkeyPatch
) -> None:
    async with running_door(plane, pool) as door, own_connection(plane, pool) as psql:
        await until(lambda: is_kept(door))
        killed = await psql.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert killed >= 2
        await psql.execute("UPDATE products SET unit_amount = 1")
        await until(lambda: shows(door, 1))
        credulous.setattr(rules, "REFRESH_SECONDS", 3600.0)
        await until(lambda: is_listened_to(pool))
        await door.catalogue.refresh()
        await psql.execute("UPDATE products SET unit_amount = 2")
        await until(lambda: shows(door, 2))


async def test_every_way_to_change_a_catalogue_makes_a_version(pool: Pool) -> None:
    async def version(merchant: str = SHOP) -> int:
        return int(
            await pool.fetchval("SELECT version FROM catalogue_versions WHERE merchant = $1", merchant) or 0
        )

    seen = [await version()]
    for statement in (
        "INSERT INTO products (merchant, sku, name, currency, unit_amount, weight_grams) "
        "VALUES ('shop', 'MUG', 'Mug', 'EUR', 1, 1), ('shop', 'POT', 'Pot', 'EUR', 1, 1)",
        "UPDATE products SET unit_amount = 5 WHERE sku = 'MUG'",
        "UPDATE products SET sku = 'CAN' WHERE sku = 'POT'",
        "INSERT INTO price_rule_versions VALUES ('shop', 'EUR', 1, NULL)",
        "DELETE FROM price_rule_versions",
        "INSERT INTO price_rules VALUES ('shop', 'EUR', 490, 1900)",
        "UPDATE price_rules SET shipping_amount = 1",
        "DELETE FROM price_rules",
        "DELETE FROM products WHERE sku = 'CAN'",
        "TRUNCATE price_rules",
        "TRUNCATE price_rule_versions",
        "TRUNCATE products",
    ):
        known = {SHOP: seen[-1], NEIGHBOUR: 0}
        await pool.execute(statement)
        seen.append(await version())
        changes = await ProductStore(pool).changes(known, limit=10)
        assert changes.versions == {SHOP: seen[-1]}, statement
        assert (changes.skus[SHOP] is None) is ("CAN" in statement or "TRUNCATE" in statement), statement
    assert seen == sorted(set(seen))
    assert await version(NEIGHBOUR) == 0
    assert (await ProductStore(pool).changes({SHOP: seen[-1]}, limit=10)).versions == {}
    assert (await ProductStore(pool).changes({SHOP: seen[-1] + 1}, limit=10)).skus == {SHOP: None}


async def test_too_many_changes_are_not_named(pool: Pool) -> None:
    store = ProductStore(pool)
    for number in range(3):
        await store.add(SHOP, f"MUG-{number}", TEA)
    assert (await store.changes({SHOP: 0}, limit=4)).skus == {
        SHOP: frozenset({"TEA", "MUG-0", "MUG-1", "MUG-2"})
    }
    assert (await store.changes({SHOP: 0}, limit=3)).skus == {SHOP: None}


@pytest.mark.parametrize("max_bytes", [1_000_000, 4_000, 0])
async def test_prices_are_of_one_version_while_two_write(plane: Any, pool: Pool, max_bytes: int) -> None:
    """Each transaction gives both products the same price. Nobody sees two, or those of the neighbour."""
    store = ProductStore(pool)
    await store.add(SHOP, "MUG", TEA)
    for sku in ("TEA", "MUG"):
        await store.add(NEIGHBOUR, sku, replace(TEA, unit_amount=1_000_000))
    is_over, newest = False, {SHOP: 890, NEIGHBOUR: 1_000_000}

    async def write(merchant: str, least: int) -> None:
        for number in range(least, least + 60):
            await set_amount(pool, number, merchant)
            newest[merchant] = number
            await asyncio.sleep(0.01)

    async def read(door: Door, merchant: str) -> int:
        seen, draw = 0, random.Random(1)
        while not is_over:
            prices = await door.reads.prices(merchant, ["TEA", "MUG"])
            tea, mug = prices.products["TEA"].unit_amount, prices.products["MUG"].unit_amount
            assert tea == mug
            assert tea >= seen, "a replica does not go back"
            assert (tea >= 1_000_000) is (merchant == NEIGHBOUR)
            seen = tea
            await asyncio.sleep(draw.choice([0, 0.002]))
        return seen

    async with AsyncExitStack() as stack:
        doors = [
            await stack.enter_async_context(
                running_door(plane, pool, is_listening=is_listening, max_bytes=max_bytes)
            )
            for is_listening in (True, False)
        ]
        readers = [
            asyncio.create_task(read(door, merchant)) for door in doors for merchant in (SHOP, NEIGHBOUR)
        ]
        await asyncio.gather(write(SHOP, 1000), write(NEIGHBOUR, 2_000_000))
        for door in doors:
            for merchant, number in newest.items():
                await until(partial(shows, door, number, merchant), seconds=5)
        is_over = True
        await asyncio.gather(*readers)


async def test_a_page_in_memory_is_the_page_of_postgresql(plane: Any, pool: Pool) -> None:
    store = ProductStore(pool)
    for number in range(30):
        details = replace(TEA, name=f"Tea {number}", unit_amount=number, is_archived=number % 7 == 0)
        await store.add(SHOP, f"{'mM'[number % 2]}ug-{number}_x", details)
        await store.add(NEIGHBOUR, f"TEA-{number}", TEA)
    searches = [
        ProductSearch(), ProductSearch(with_archived=True), ProductSearch(text="tea -3"),
        ProductSearch(currency="EUR", least=5, most=20), ProductSearch(text="nothing"),
    ]  # fmt: skip
    async with running_door(plane, pool) as door:
        for search in searches * 2:
            for after in ("", "Mug-11_x", "mug-2_x", "zzz"):
                for limit in (1, 4, 50):
                    shown = await door.reads.page(SHOP, search, after=after, limit=limit)
                    stored = (await store.page(SHOP, search, after=after, limit=limit)).products
                    assert [it.sku for it in shown] == [it.sku for it in stored]
        assert door.catalogue.page(SHOP, (ProductSearch(), "", 4)) is not None


async def test_two_gateways(behind: Behind, gateway: Gateway, namespace: str) -> None:
    """What a merchant changes at one is seen there at once, and at the other within a second."""
    async with (
        running_gateway(behind.plane) as second,
        open_shop(behind.plane, behind.pool, gateway.url, namespace) as shop,
    ):
        other = second.http
        other.headers["Authorization"] = shop.seller.headers["Authorization"]

        async def price_at_the_other() -> int:
            return int((await other.get("/api/products/TEA")).json()["price"]["amount"])

        await shop.sell("TEA", 1)
        assert await price_at_the_other() == 1, "it is not refused for being new"
        for number in range(2, 12):
            await shop.seller.patch("/api/products/TEA", json={"price": {"amount": number}})
            assert (await shop.customer.get("/api/products/TEA")).json()["price"]["amount"] == number
            await until(partial(_is, price_at_the_other, number), seconds=1.5)
        await shop.recount("TEA", 7)
        assert (await shop.customer.get("/api/products/TEA")).json()["available"] == 7
        # A price that is news to the other one is no reason to refuse its customer.
        await shop.seller.patch("/api/products/TEA", json={"price": {"amount": 500}})
        expected = {"amount": 500, "currency": "EUR"}
        body = order_of(items=[{"sku": "TEA", "quantity": 1}], expectedTotal=expected)
        placed = await other.post("/api/orders", json=body, headers={"Idempotency-Key": "new-price"})
        assert (placed.status_code, placed.json()["quote"]["amounts"]["total"]) == (202, 500)
        await shop.seller.delete("/api/products/TEA")
        order = order_of(items=[{"sku": "TEA", "quantity": 1}])
        assert code_of(await shop.keyed("/api/orders", order)) == (422, "inactive_sku")


async def _is(read: Callable[[], Awaitable[int]], number: int) -> bool:
    return await read() == number


@asynccontextmanager
async def own_connection(plane: Any, pool: Pool) -> AsyncIterator[asyncpg.Connection]:
    """As somebody with psql."""
    connection = await asyncpg.connect(await dsn_of(plane, pool), timeout=10)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def dsn_of(plane: Any, pool: Pool) -> str:
    return f"{plane.postgres_dsn.rpartition('/')[0]}/{await pool.fetchval('SELECT current_database()')}"
