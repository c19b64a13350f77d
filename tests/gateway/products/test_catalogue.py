"""What a front door keeps of the catalogue is as new as it promises."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderplane.crds.money import EXPONENTS
from orderplane.gateway.products.availability import MAX_AGE_SECONDS
from orderplane.gateway.products.catalogue import MAX_STALENESS_SECONDS, REFRESH_SECONDS
from orderplane.gateway.products.reads import ShownProduct
from orderplane.gateway.products.views import ProductListView, product_view, write_page, write_product
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.products import ProductDetails, ProductSearch, StoredProduct
from orderplane.ledgers.price_rules import ShippingZone, WeightStep
from orderplane.ledgers.pricing import RuleInForce

from ...support.price_rules import flat
from .shelf import TEA, Clock, Door, Shelf, open_door

EVERYTHING = ProductSearch()
DOORS = ("left", "right")
MERCHANTS = ("shop", "neighbour")
SKUS = ("TEA",)

_steps = st.one_of(
    st.tuples(st.sampled_from(["price", "archive", "delete"]), st.sampled_from([*DOORS, "by hand"]),
              st.sampled_from(MERCHANTS), st.sampled_from(SKUS)),
    st.tuples(st.just("sell"), st.sampled_from([*DOORS, "elsewhere"]), st.sampled_from(MERCHANTS),
              st.sampled_from(SKUS)),
    st.tuples(st.sampled_from(["product", "page", "prices"]), st.sampled_from(DOORS),
              st.sampled_from(MERCHANTS), st.sampled_from(SKUS)),
    st.tuples(st.sampled_from(["refresh", "answer", "answer", "be slow", "be silent", "restart"])),
    st.tuples(st.just("wait"), st.sampled_from([0.01, MAX_AGE_SECONDS, 0.5, MAX_STALENESS_SECONDS, 400.0])),
)  # fmt: skip


class History:
    """What each product was, and when; and what every read has to show at least."""

    def __init__(self) -> None:
        self.clock, self.shelf = Clock(), Shelf()
        self.doors = {name: open_door(self.shelf, self.clock) for name in DOORS}
        self.number = 0
        self.details: dict[tuple[str, str], list[tuple[float, str, ProductDetails | None]]] = {}
        self.stock: dict[tuple[str, str], list[tuple[float, str, int]]] = {}
        self.reading: list[asyncio.Task[None]] = []

    async def step(self, name: str, *more: str | float) -> None:
        match name, *more:
            case "price" | "archive" | "delete", str(door), str(merchant), str(sku):
                self.write(name, door, merchant, sku)
            case "sell", str(door), str(merchant), str(sku):
                self.number += 1
                self.shelf.stock[merchant, sku] = self.number
                self.stock.setdefault((merchant, sku), []).append((self.clock.now, door, self.number))
                if door in self.doors:
                    self.doors[door].availability.expire(merchant)
            case "wait", float(seconds):
                self.clock.now += seconds
            case "refresh", *_:
                for it in self.doors.values():
                    await it.catalogue.refresh()
            case "be slow", *_:
                self.shelf.is_slow = True
            case "answer", *_:
                await self.answer()
            case "be silent", *_:
                self.shelf.is_silent = True
            case "restart", *_:
                self.shelf.restart()
            case _, str(door), str(merchant), str(sku):
                self.reading.append(asyncio.create_task(self.read(name, door, merchant, sku)))
                for _ in range(5):
                    await asyncio.sleep(0)

    def write(self, name: str, door: str, merchant: str, sku: str) -> None:
        self.number += 1
        if name == "delete":
            self.shelf.delete(merchant, sku)
            details = None
        else:
            details = replace(TEA, unit_amount=self.number, is_archived=name == "archive")
            self.shelf.put(merchant, sku, details)
        self.details.setdefault((merchant, sku), []).append((self.clock.now, door, details))
        if door in self.doors:
            with self.doors[door].catalogue.changed_here(merchant):
                pass

    async def answer(self) -> None:
        self.shelf.is_slow = self.shelf.is_silent = False
        self.shelf.answer_slow_reads()
        for _ in range(5):
            await asyncio.sleep(0)

    async def read(self, kind: str, door: str, merchant: str, sku: str) -> None:
        reads = self.doors[door].reads
        details = _allowed(
            self.details.get((merchant, sku), []), door, self.clock.now - MAX_STALENESS_SECONDS, None
        )
        stock = _allowed(self.stock.get((merchant, sku), []), door, self.clock.now - MAX_AGE_SECONDS, 0)
        details_before = len(self.details.get((merchant, sku), []))
        stock_before = len(self.stock.get((merchant, sku), []))
        try:
            if kind == "prices":
                found = (await reads.prices(merchant, [sku])).products.get(sku)
                amount, available = found.unit_amount if found else None, None
            elif kind == "product":
                amount, available = _seen(await reads.product(merchant, sku))
            else:
                page = await reads.page(merchant, replace(EVERYTHING, with_archived=True), after="", limit=9)
                amount, available = _seen(next((it for it in page if it.sku == sku), None))
        except Transient:
            return
        details += [it[2] for it in self.details.get((merchant, sku), [])[details_before:]]
        stock += [it[2] for it in self.stock.get((merchant, sku), [])[stock_before:]]
        assert amount in [it.unit_amount if it else None for it in details], (kind, door, merchant, sku)
        assert available is None or available in stock, (kind, door, merchant, sku)


def _allowed(history: list[tuple[float, str, Any]], door: str, since: float, first: Any) -> list[Any]:
    """What may still be seen: what was there since then, but nothing before the door's own last write."""
    seen_by = [number for number, (at, writer, _) in enumerate(history) if at <= since or writer == door]
    values = [first, *(value for _, _, value in history)]
    return values[(max(seen_by) + 1 if seen_by else 0) :]


def _seen(shown: ShownProduct | None) -> tuple[int | None, int | None]:
    document = orjson.loads(shown.body) if shown else None
    return (document["price"]["amount"], document["available"]) if document else (None, None)


@settings(max_examples=300)
@given(st.lists(_steps, min_size=10, max_size=40))
def test_no_read_is_older_than_promised(steps: list[tuple[Any, ...]]) -> None:
    """Two replicas, two merchants, somebody with psql; a PostgreSQL that is slow, silent or another one."""

    async def run() -> None:
        history = History()
        for step in steps:
            await history.step(*step)
        await history.answer()
        await asyncio.gather(*history.reading)

    asyncio.run(run())


@given(
    st.builds(
        StoredProduct,
        sku=st.just("TEA"),
        details=st.builds(
            ProductDetails,
            name=st.text(),
            description=st.text() | st.just('"available":0,"archived":false}'),
            currency=st.sampled_from(sorted(EXPONENTS)),
            unit_amount=st.integers(0, 10**11),
            other_prices=st.dictionaries(st.sampled_from(sorted(EXPONENTS)), st.integers(0, 10**11)),
            weight_grams=st.integers(1, 10**6),
            is_archived=st.booleans(),
        ),
        version=st.integers(1, 10**6),
        available=st.integers(0, 10**12),
    ),
    st.integers(0, 10**12),
)
def test_a_written_product_is_the_view_byte_for_byte(product: StoredProduct, available: int) -> None:
    view = product_view(replace(product, available=available))
    written = write_product(product)
    assert written.body(available) == orjson.dumps(view)
    assert written.etag(available) == f'"{product.version}-{available}"'
    page: ProductListView = {"items": [view, view], "next": "abc"}
    assert write_page([written.body(available)] * 2, "abc") == orjson.dumps(page)
    assert write_page([], None) == b'{"items":[],"next":null}'


async def opened(*, max_bytes: int = 1_000_000) -> tuple[Door, Shelf, Clock]:
    """A door that has looked once, and a product."""
    shelf, clock = Shelf(), Clock()
    shelf.put("shop", "TEA", TEA)
    door = open_door(shelf, clock, max_bytes=max_bytes)
    await door.catalogue.refresh()
    return door, shelf, clock


async def test_what_is_in_memory_is_not_asked_for() -> None:
    door, shelf, clock = await opened()
    for _ in range(100):
        await door.reads.product("shop", "TEA")
        await door.reads.page("shop", EVERYTHING, after="", limit=3)
        await door.reads.prices("shop", ["TEA"])
        clock.now += REFRESH_SECONDS / 10
        await door.catalogue.refresh()
    assert (shelf.asked.count("find"), shelf.asked.count("page")) == (1, 1)
    assert shelf.asked.count("available") < 15


async def test_without_looking_nothing_is_believed() -> None:
    door, shelf, clock = await opened()
    await door.reads.product("shop", "TEA")
    shelf.put("shop", "TEA", replace(TEA, unit_amount=1))
    clock.now += MAX_STALENESS_SECONDS
    assert (await door.reads.prices("shop", ["TEA"])).products["TEA"].unit_amount == 1
    clock.now += MAX_STALENESS_SECONDS
    shelf.is_silent = True
    with pytest.raises(Transient):
        await door.reads.product("shop", "TEA")


async def test_a_change_drops_what_has_changed_and_nothing_else() -> None:
    door, shelf, clock = await opened()
    for number in range(5):
        shelf.put("shop", f"MUG-{number}", TEA)
    await door.reads.prices("shop", ["TEA", *(f"MUG-{number}" for number in range(5))])
    shelf.put("shop", "TEA", replace(TEA, unit_amount=1))
    clock.now += 0.1
    await door.catalogue.refresh()
    asked = len(shelf.asked)
    for number in range(5):
        assert door.catalogue.product("shop", f"MUG-{number}") is not None
    assert len(shelf.asked) == asked
    assert door.catalogue.product("shop", "TEA") is None


async def test_prices_are_of_one_version() -> None:
    """Tea and its tax change together; nobody pays one with the other's."""
    door, shelf, clock = await opened()
    shelf.set_rule("shop", "EUR", flat(0, 700))
    await door.reads.prices("shop", ["TEA"])
    shelf.set_rule("shop", "EUR", flat(0, 1900))
    await door.reads.product("shop", "TEA")
    prices = await door.reads.prices("shop", ["TEA"])
    assert (prices.products["TEA"].unit_amount, prices.rules["EUR"].rule) == (890, flat(0, 700))
    clock.now += 0.1
    await door.catalogue.refresh()
    assert (await door.reads.prices("shop", ["TEA"])).rules["EUR"] == RuleInForce(2, flat(0, 1900))


async def test_another_server_may_know_less() -> None:
    """A standby without the last transactions may give their numbers again."""
    door, shelf, clock = await opened()
    shelf.put("shop", "TEA", replace(TEA, unit_amount=1))
    await door.reads.product("shop", "TEA")
    number = shelf.versions["shop"]
    shelf.put("shop", "TEA", replace(TEA, unit_amount=2))
    shelf.versions["shop"] = number
    shelf.restart()
    clock.now += 0.1
    await door.catalogue.refresh()
    assert (await door.reads.prices("shop", ["TEA"])).products["TEA"].unit_amount == 2


async def test_beyond_the_bound_postgresql_is_asked() -> None:
    shelf, clock = Shelf(), Clock()
    for number in range(100):
        shelf.put("shop", f"TEA-{number:02}", replace(TEA, unit_amount=number))
    door = open_door(shelf, clock, max_bytes=50_000)
    for _ in range(3):
        for number in range(100):
            prices = await door.reads.prices("shop", [f"TEA-{number:02}"])
            assert prices.products[f"TEA-{number:02}"].unit_amount == number
        page = await door.reads.page("shop", EVERYTHING, after="", limit=100)
        assert [shown.sku for shown in page] == sorted(sku for _, sku in shelf.products)
    await door.catalogue.refresh()
    kept = [number for number in range(100) if door.catalogue.product("shop", f"TEA-{number:02}")]
    assert 10 < len(kept) < 50


async def test_price_rules_take_memory_too() -> None:
    """A rule that is larger than the bound is read each time."""
    door, shelf, _ = await opened(max_bytes=50_000)
    steps = tuple(WeightStep(up_to_grams=grams, amount=grams) for grams in range(1, 101))
    rule = flat(0).model_copy(update={"shipping": (ShippingZone(by_weight=steps),)})
    shelf.set_rule("shop", "EUR", rule)
    for _ in range(3):
        assert (await door.reads.prices("shop", ["TEA"])).rules["EUR"].rule == rule
    assert shelf.asked.count("find") == 3


async def test_a_bound_of_nothing_keeps_nothing() -> None:
    door, shelf, _ = await opened(max_bytes=0)
    for _ in range(3):
        assert await door.reads.product("shop", "TEA") is not None
    assert shelf.asked.count("find") == 3


async def test_many_who_look_at_once_share_one_read_of_the_stock() -> None:
    door, shelf, clock = await opened()
    await door.reads.product("shop", "TEA")
    clock.now += MAX_AGE_SECONDS
    await door.catalogue.refresh()
    shelf.is_slow = True
    readers = [asyncio.create_task(door.reads.product("shop", "TEA")) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    readers[0].cancel()
    await asyncio.sleep(0)
    shelf.stock["shop", "TEA"] = 5
    shelf.answer_slow_reads()
    answers = await asyncio.gather(*readers[1:])
    assert [answer.available for answer in answers if answer] == [0] * 49
    assert shelf.asked.count("available") == 1


async def test_a_stock_that_cannot_be_read_is_read_again_by_the_next() -> None:
    door, shelf, clock = await opened()
    await door.reads.product("shop", "TEA")
    clock.now += MAX_AGE_SECONDS
    await door.catalogue.refresh()
    shelf.is_silent = True
    with pytest.raises(Transient):
        await door.reads.product("shop", "TEA")
    shelf.is_silent = False
    assert await door.reads.product("shop", "TEA") is not None
