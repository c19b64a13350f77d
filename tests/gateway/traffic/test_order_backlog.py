"""The backlog read from PostgreSQL: waiting orders, new orders, age of the oldest untouched one."""

import json
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from orderplane.adapters.postgres.pool import open_pool
from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.traffic import order_backlog as backlog_module
from orderplane.gateway.traffic.order_backlog import BACKLOG_QUERY, MAX_ORDERS, PostgresOrderBacklog
from orderplane.ledgers.postgres.session import Pool

from ..conftest import until

pytestmark = pytest.mark.integration


class Books:
    """Rows as the gateway and the operator write them, of a merchant of this test's own."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.merchant = f"m-{secrets.token_hex(4)}"

    async def key(self, name: str, *, answered: bool = True, claimed: bool = True) -> None:
        """The row of a key, made now."""
        await self.pool.execute(
            "INSERT INTO idempotency (merchant, principal, key_hash, fingerprint, kind, name, manifest, "
            "  status, body, claimed_until) "
            "VALUES ($1, 'p', $2, '', 'Order', $3, '{}', $4, $5, now() + $6 * interval '1 minute')",
            self.merchant, secrets.token_bytes(8), name, 202 if answered else None,
            "{}" if answered else None, 1 if claimed else -1,
        )  # fmt: skip

    async def gate(self, name: str, state: str = "Open", *, parcel: str | None = None) -> None:
        """The row of an order, and perhaps that of its shipment."""
        uid = uuid4()
        await self.pool.execute(
            "INSERT INTO orders (merchant, uid, name, currency, total, state, reason, outcome) "
            "VALUES ($1, $2, $3, 'EUR', 1, $4, 'X', $5)",
            self.merchant, uid, name, state, "Failed" if state == "Sealed" else None,
        )  # fmt: skip
        if parcel:
            await self.pool.execute(
                "INSERT INTO shipments (merchant, order_uid, name, state) VALUES ($1, $2, $3, $4)",
                self.merchant, uid, name, parcel,
            )  # fmt: skip

    async def overtake_all(self) -> None:
        """As if everybody else were stuck: one who came later is done."""
        await self.key("overtakes")
        await self.gate("overtakes", "Sealed")


@pytest.fixture
async def books(plane: Plane) -> AsyncIterator[Books]:
    pool = await open_pool(plane.postgres_dsn, size=2)
    books = Books(pool)
    yield books
    for table in ("idempotency", "shipments", "orders"):
        await pool.execute(f"DELETE FROM {table} WHERE merchant = $1", books.merchant)  # noqa: S608
    await pool.close()


async def test_who_waits_and_who_came(books: Books) -> None:
    backlog = PostgresOrderBacklog(books.pool)
    before = await backlog.read()
    for name in ("accepted", "opened", "at the carrier", "labelled", "undone", "over"):
        await books.key(name)
    await books.key("being made", answered=False)
    await books.key("given up", answered=False, claimed=False)
    await books.gate("opened")
    await books.gate("at the carrier", parcel="Intended")
    await books.gate("labelled", parcel="Bought")
    await books.gate("undone", "Compensating")
    await books.gate("over", "Sealed")
    after = await backlog.read()
    # accepted, opened, at the carrier, being made
    assert (after.waiting - before.waiting, after.entered) == (4, 7)
    assert after.seconds > 0
    again = await backlog.read()
    assert (again.waiting, again.entered) == (after.waiting, 0)


async def test_the_age_is_that_of_the_first_whose_turn_it_is(books: Books) -> None:
    backlog = PostgresOrderBacklog(books.pool)
    await books.overtake_all()
    assert (await backlog.read()).untouched_seconds == 0
    await books.key("first")

    async def is_half_a_second_old() -> bool:
        return (await backlog.read()).untouched_seconds > 0.5

    await until(is_half_a_second_old)
    await books.key("second")
    age_of_first = (await backlog.read()).untouched_seconds
    assert age_of_first > 0.5
    await books.gate("first")
    assert 0 < (await backlog.read()).untouched_seconds < age_of_first
    await books.gate("second")
    assert (await backlog.read()).untouched_seconds == 0


async def test_who_is_stuck_half_way_is_passed_over_after_a_while_and_who_was_not_begun_never_is(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_module, "WINDOW", timedelta(seconds=1))
    backlog = PostgresOrderBacklog(books.pool)

    async def is_empty() -> bool:
        return (await backlog.read()).waiting == 0

    async def is_old() -> bool:
        return (await backlog.read()).untouched_seconds > 2

    await books.overtake_all()
    await until(is_empty)
    await books.key("stuck")
    await books.gate("stuck")
    assert (await backlog.read()).waiting == 1
    await until(is_empty)
    await books.key("not begun")
    await until(is_old)


async def test_a_look_reads_no_more_however_many_orders_there_were(books: Books) -> None:
    # Who came before may be many, and each of them is looked up.
    since = await books.pool.fetchval("SELECT now()")

    async def read() -> int:
        """How many pages a look reads."""
        explained = await books.pool.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {BACKLOG_QUERY}", since, since, MAX_ORDERS
        )
        plan = json.loads(explained)[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    await books.key("waits")
    few = await read()
    await books.pool.execute(
        "INSERT INTO idempotency (merchant, principal, key_hash, fingerprint, kind, name, manifest, "
        "  status, body, created_at) "
        "SELECT $1, 'p', int4send(n), '', 'Order', 'o-' || n, '{}', 202, '{}', now() - interval '2 hours' "
        "FROM generate_series(1, 100000) n",
        books.merchant,
    )
    await books.pool.execute(
        "INSERT INTO orders (merchant, uid, name, currency, total, state, outcome) "
        "SELECT $1, gen_random_uuid(), 'o-' || n, 'EUR', 1, 'Sealed', 'Delivered' "
        "FROM generate_series(1, 100000) n",
        books.merchant,
    )
    # As autovacuum does, which may have come by when there was little.
    await books.pool.execute("ANALYZE idempotency, orders")
    # A level more in an index, or two: nothing that grows with what is long over.
    assert await read() <= few + 20
