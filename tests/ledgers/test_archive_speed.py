"""A list, a search or a read of the archive costs the same with a thousand orders and with a million.

The suite counts the blocks that are read, with 20,000 orders: the time is that of a busy machine.
`ARCHIVE_ORDERS=1000000 scripts/test tests/ledgers/test_archive_speed.py -s` fills so many, and measures.
"""

import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from orderplane.ledgers.postgres import archived_lists
from orderplane.ledgers.postgres.archived_lists import ArchiveCriteria, PostgresArchivedLists
from orderplane.ledgers.postgres.session import Pool

from ..support.database import own_database

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1_500)]

FEW, MANY = 1_000, int(os.environ.get("ARCHIVE_ORDERS", "20000"))
CALLS = 200
PRODUCTS, CUSTOMERS_OF = 40, 20
"""Each product is in a fortieth of all orders; a customer has twenty."""

MONTHS = 24
"""In so many partitions."""
BEGIN = (datetime.now(UTC) - timedelta(days=30 * (MONTHS - 1))).replace(microsecond=0)
"""From here on, evenly; as in life, orders that are placed together leave together."""

_MAKE_PAST = """
DO $$ BEGIN
    FOR i IN 2 .. MONTHS LOOP
        FOR n IN 1 .. 2 LOOP
            EXECUTE format('CREATE TABLE past_%s_%s PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                i, n, (ARRAY['archived_orders', 'archived_order_skus'])[n],
                date_trunc('month', now() AT TIME ZONE 'UTC') - i * interval '1 month' || '+00',
                date_trunc('month', now() AT TIME ZONE 'UTC') - (i - 1) * interval '1 month' || '+00');
        END LOOP;
    END LOOP;
END $$
"""

_FILL = """
WITH made AS (
    SELECT n, md5('order' || n)::uuid AS uid, 'o-' || n AS name, 'c-' || n % $2 AS customer,
        $3::timestamptz + n * $5::interval AS created_at,
        $3::timestamptz + n * $5::interval AS rested_at, 'SKU-' || n % $4 AS sku,
        CASE WHEN n % 10 = 0 THEN 'Failed' ELSE 'Delivered' END AS phase
    FROM generate_series(1, $1::int) n
), stored AS (
    INSERT INTO archived_orders
        (merchant, uid, name, customer, reference, phase, created_at, rested_at, resource_version, document)
    SELECT 'shop', uid, name, customer, 'r-' || n, phase, created_at, rested_at, n, jsonb_build_object(
        'metadata', jsonb_build_object('name', name, 'uid', uid, 'creationTimestamp', created_at),
        'spec', jsonb_build_object('customer', customer, 'items', jsonb_build_array(
            jsonb_build_object('sku', sku, 'quantity', 1)), 'address', repeat('x', 200)),
        'status', jsonb_build_object('phase', phase, 'conditions', repeat('y', 900)))
    FROM made
)
INSERT INTO archived_order_skus (merchant, sku, created_at, name, uid, rested_at)
SELECT 'shop', sku, created_at, name, uid, rested_at FROM made
"""


def apart(orders: int) -> timedelta:
    """The time between two orders."""
    return (datetime.now(UTC) - BEGIN) / (orders + 1)


async def fill(pool: Pool, orders: int) -> None:
    await pool.execute(_MAKE_PAST.replace("MONTHS", str(MONTHS)))
    await pool.execute(_FILL, orders, orders // CUSTOMERS_OF, BEGIN, PRODUCTS, apart(orders), timeout=1_200)
    await pool.execute("ANALYZE archived_orders, archived_order_skus", timeout=600)


def questions(lists: PostgresArchivedLists, orders: int) -> dict[str, Callable[[int], Awaitable[Any]]]:
    """What people ask; the number makes each call another one."""

    def page(limit: int = 50, before: int | None = None, **criteria: Any) -> Awaitable[Any]:
        place = None if before is None else (BEGIN + before * apart(orders), "")
        return lists.page("shop", ArchiveCriteria(**criteria), place, limit)

    return {
        "newest": lambda _: page(),
        "in the middle": lambda n: page(before=n % orders),
        "of a customer": lambda n: page(customer=f"c-{n % (orders // CUSTOMERS_OF)}"),
        "by phase": lambda n: page(phase="Failed", before=n % orders),
        "by product": lambda n: page(sku=f"SKU-{n % PRODUCTS}"),
        "by reference": lambda n: page(reference=f"r-{1 + n % orders}"),
        "of a day": lambda n: page(since=BEGIN + n % orders * apart(orders)),
        "get": lambda n: lists.get("shop", f"o-{1 + n % orders}"),
    }


async def blocks(pool: Pool, orders: int) -> dict[str, int]:
    """The blocks that one page of each list reads."""
    first = archived_lists._FIRST
    values = {"reference": f"r-{orders // 2}", "customer": "c-7", "sku": "SKU-7", "phase": "Failed", "": None}
    found = {}
    middle = BEGIN + orders // 2 * apart(orders)
    for driver, statement in archived_lists._STATEMENTS.items():
        explained = await pool.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}",
            "shop", values[driver], first, middle, "", 50,
        )  # fmt: skip
        plan = json.loads(explained)[0]["Plan"]
        found[driver] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return found


async def test_the_archive_is_read_as_fast_however_much_is_in_it(plane: Any) -> None:
    async with (
        own_database(plane.postgres_dsn, plans_once=True) as few,
        own_database(plane.postgres_dsn, plans_once=True) as many,
    ):
        await fill(few, FEW)
        await fill(many, MANY)
        with_few, with_many = await blocks(few, FEW), await blocks(many, MANY)
        for driver, read in with_many.items():
            # The indexes of a million have two levels more than those of a thousand.
            assert read <= 4 * with_few[driver], (driver, with_few, with_many)
        if "ARCHIVE_ORDERS" in os.environ:
            await compare_times(few, many)


async def compare_times(few: Pool, many: Pool) -> None:
    """In turns, so that what else the machine does is in both."""
    asked = questions(PostgresArchivedLists(few), FEW), questions(PostgresArchivedLists(many), MANY)
    dice, slow = Random(1), dict[str, list[float]]()
    for name in asked[0]:
        times: tuple[list[float], list[float]] = [], []
        for _ in range(CALLS + 20):
            number = dice.randrange(10**9)
            for side, taken in zip(asked, times, strict=True):
                began = time.perf_counter()
                await side[name](number)
                taken.append(time.perf_counter() - began)
        p95 = [statistics.quantiles(taken[20:], n=20)[-1] * 1_000 for taken in times]
        print(f"{name:14} p95 {p95[0]:6.2f} ms with {FEW:,}, {p95[1]:6.2f} ms with {MANY:,}")  # noqa: T201
        slow.update({name: p95} if p95[1] > 1.5 * p95[0] + 0.5 else {})
    assert slow == {}
