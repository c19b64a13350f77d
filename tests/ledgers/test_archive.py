"""The archive in PostgreSQL: what is in it, how it is found, and its partitions."""

import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orderplane.ledgers.archive import archived_order, without_personal_data
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.postgres.archive import PostgresOrderArchive
from orderplane.ledgers.postgres.archived_lists import ArchiveCriteria, PostgresArchivedLists
from orderplane.ledgers.postgres.cancellation import PostgresCancellations
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.states import GateState

from ..support.database import own_database
from .sides import order_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def pool(plane: Any) -> AsyncIterator[Pool]:
    async with own_database(plane.postgres_dsn) as opened:
        yield opened


@pytest.fixture
def shop() -> str:
    return f"shop-{secrets.token_hex(4)}"


def a_document(merchant: str, uid: str, *, version: int = 7, **spec: Any) -> dict[str, Any]:
    document = order_of(merchant, uid).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["metadata"] |= {
        "resourceVersion": str(version),
        "annotations": {"orderplane.dev/retry": "a", "example.org/note": "b"},
        "managedFields": [{"manager": "kubectl"}],
        "finalizers": ["orderplane.dev/compensate"],
    }
    document["spec"] |= spec
    return document


async def archive(pool: Pool, merchant: str, *, phase: str = "Shipped", version: int = 7, **spec: Any) -> str:
    """An order that was opened and has left; answers its uid."""
    uid = str(uuid4())
    gate = await PostgresGateLedger(pool).open(order_of(merchant, uid))
    document = a_document(merchant, uid, version=version, **spec)
    await PostgresOrderArchive(pool).store(archived_order(document, {"phase": phase}), gate)
    return uid


def test_what_is_ours_is_archived() -> None:
    document = a_document("shop", str(uuid4()), reference="2026-1", metadata={"channel": "mail"})
    row = archived_order(document, {"phase": "Failed"})
    assert row.document["spec"] == document["spec"]
    assert row.document["status"] == {"phase": "Failed"}
    assert row.document["metadata"]["annotations"] == {"orderplane.dev/retry": "a"}
    assert not {"managedFields", "finalizers"} & set(row.document["metadata"])
    assert (row.phase, row.reference, row.skus, row.version) == ("Failed", "2026-1", ("TEA",), 7)


def test_an_erased_order_has_the_books_and_no_person() -> None:
    address = {"name": "Ada", "line1": "1 Street", "city": "Delft", "postalCode": "2611", "country": "NL"}
    document = a_document("shop", str(uuid4()), address=address, metadata={"gift for": "Ada"})
    row = without_personal_data(archived_order(document, {"phase": "Delivered"}))
    assert "Ada" not in str(row.document)
    assert row.document["spec"]["address"]["country"] == "NL"
    assert row.document["spec"]["quote"] == document["spec"]["quote"]
    assert row == without_personal_data(row)


@pytest.mark.integration
async def test_an_archived_order_is_found_with_its_newest_content(pool: Pool, shop: str) -> None:
    gates, store, lists = PostgresGateLedger(pool), PostgresOrderArchive(pool), PostgresArchivedLists(pool)
    uid = str(uuid4())
    order = order_of(shop, uid)
    gate = await gates.open(order)
    name = order.metadata.name
    assert await lists.get(shop, name) is None
    newer = archived_order(a_document(shop, uid, version=9), {"phase": "Shipped"})
    older = archived_order(a_document(shop, uid, version=8), {"phase": "Paid"})
    after = await store.store(newer, gate)
    assert after.archived_version == 9
    assert (await store.store(older, gate)).archived_version == 9
    found = await lists.get(shop, name)
    assert found is not None
    assert (found["status"]["phase"], found["metadata"]["resourceVersion"]) == ("Shipped", "9-1")
    assert await lists.get("other-shop", name) is None
    with pytest.raises(GateClosed):
        await store.store(newer, await gates.compensate(shop, uid, reason="X", message="", is_cancel=True))
        await gates.seal(shop, uid)
        await store.store(newer, gate)


@pytest.mark.integration
async def test_what_is_missing_of_an_order_that_left_does_not_compensate_it_but_its_customer_may(
    pool: Pool, shop: str
) -> None:
    uid = await archive(pool, shop)
    gates, store = PostgresGateLedger(pool), PostgresOrderArchive(pool)
    missing = await gates.compensate(shop, uid, reason="PaymentMissing", message="", is_cancel=False)
    assert missing.state is GateState.OPEN
    assert shop not in {gate.merchant for gate in await gates.unsealed_page(None, 1000)}
    assert not await store.outdated(shop, missing.name)
    cancelled = await PostgresCancellations(pool).request(shop, uid, actor="user:u-1")
    assert (cancelled.state, cancelled.reason) == (GateState.COMPENSATING, "CancelRequested")
    assert [document["metadata"]["uid"] for document in await store.outdated(shop, missing.name)] == [uid]
    assert (shop, missing.name) in await store.outdated_keys(100)
    row = archived_order((await store.outdated(shop, missing.name))[0], {"phase": "Compensating"})
    await store.store(row, cancelled)
    assert not await store.outdated(shop, missing.name)
    found = await PostgresArchivedLists(pool).get(shop, missing.name)
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "7-2"


@pytest.mark.integration
async def test_a_list_walks_from_the_newest_on_by_each_criterion(pool: Pool, shop: str) -> None:
    lists = PostgresArchivedLists(pool)
    uids = []
    for number in range(6):
        sku = ("TEA", "MUG")[number % 2]
        items = [{"sku": sku, "quantity": 1}]
        phase = ("Delivered", "Failed")[number // 3]
        uid = await archive(
            pool, shop, phase=phase, items=items, customer=f"c-{number % 3}", reference=f"r-{number}"
        )
        await pool.execute(
            "WITH moved AS (UPDATE archived_order_skus SET created_at = $2 WHERE uid = $1) "
            "UPDATE archived_orders SET created_at = $2 WHERE uid = $1",
            UUID(uid), NOON + timedelta(minutes=number),
        )  # fmt: skip
        uids.append(uid)

    async def walk(**criteria: Any) -> list[int]:
        found: list[int] = []
        before: tuple[datetime, str] | None = None
        while page := await lists.page(shop, ArchiveCriteria(**criteria), before, 2):
            found += [uids.index(order["metadata"]["uid"]) for order in page]
            before = NOON + timedelta(minutes=found[-1]), page[-1]["metadata"]["name"]
        return found

    assert await walk() == [5, 4, 3, 2, 1, 0]
    assert await walk(sku="MUG") == [5, 3, 1]
    assert await walk(phase="Failed") == [5, 4, 3]
    assert await walk(customer="c-1") == [4, 1]
    assert await walk(reference="r-3") == [3]
    times = {"since": NOON + timedelta(minutes=1), "until": NOON + timedelta(minutes=4)}
    assert await walk(**times) == [3, 2, 1]
    assert await walk(sku="MUG", **times) == [3, 1]
    beyond = datetime.max.replace(tzinfo=UTC)
    assert await walk(since=beyond) == []
    assert await walk(until=beyond) == [5, 4, 3, 2, 1, 0]


@pytest.mark.integration
async def test_partitions_are_made_ahead_and_dropped_whole(pool: Pool, shop: str) -> None:
    async def months() -> list[str]:
        rows = await pool.fetch(
            "SELECT right(inhrelid::regclass::text, 7) AS month FROM pg_inherits "
            "WHERE inhparent = 'archived_orders'::regclass ORDER BY 1"
        )
        return [row["month"] for row in rows]

    before = await months()
    assert len(before) == 5, "the last month, this one, and three ahead"
    assert await pool.fetchval("SELECT make_archive_partitions(3)") == 0
    assert await pool.fetchval("SELECT make_archive_partitions(5)") == 4
    assert await months() == [*before, *(await months())[5:]]
    await archive(pool, shop)
    assert await pool.fetchval("SELECT drop_archive_partitions(1)") == 0
    for table in ("archived_orders", "archived_order_skus"):
        await pool.execute(
            f"CREATE TABLE {table}_2019_12 PARTITION OF {table} "
            "FOR VALUES FROM ('2019-12-01T00:00:00Z') TO ('2020-01-01T00:00:00Z')"
        )
    assert await pool.fetchval("SELECT drop_archive_partitions(12)") == 2
    assert await pool.fetchval("SELECT count(*) FROM archived_orders WHERE merchant = $1", shop) == 1
