"""Pickups in PostgreSQL: nobody waits for ever, whatever the carrier refuses."""

import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from orderplane.adapters.postgres.pool import open_pool
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers.postgres.parcels import PostgresParcelLedger
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.ledgers.shipments import NewPickup

pytestmark = pytest.mark.integration

LEASE = 30.0
HOUR = timedelta(hours=1)
EVERYBODY = 10_000


@pytest.fixture(scope="module")
async def pool(plane: Plane) -> AsyncIterator[Pool]:
    pool = await open_pool(plane.postgres_dsn, size=2)
    yield pool
    await pool.close()


@pytest.fixture
async def desk(pool: Pool) -> AsyncIterator["Desk"]:
    """Parcels of one merchant; what others of this plane wait for is put off for the test."""
    async with session(pool) as connection:
        await connection.execute("UPDATE shipments SET pickup_claimed_at = now() + interval '1 day'")
    yield Desk(pool, f"pickups-{secrets.token_hex(4)}")


class Desk:
    def __init__(self, pool: Pool, merchant: str) -> None:
        self.pool, self.merchant = pool, merchant
        self.ledger = PostgresParcelLedger(pool)

    async def bring(self, count: int, *, bought_ago: timedelta = timedelta()) -> set[str]:
        """Labels are bought; answers their orders."""
        uids = {str(uuid4()) for _ in range(count)}
        async with session(self.pool) as connection:
            for uid in uids:
                await connection.execute(
                    "INSERT INTO shipments (merchant, order_uid, name, state, provider_id, tracking_code, "
                    "bought_at) VALUES ($1, $2, $3, 'Bought', $4, $5, now() - $6::interval)",
                    self.merchant, uid, f"order-{uid[:8]}-{uid[-8:]}", f"shp_{uid}", f"T{uid}", bought_ago,
                )  # fmt: skip
        return uids

    async def wait(self, time: timedelta) -> None:
        """So much time passes."""
        await self.change("pickup_claimed_at = pickup_claimed_at - $2::interval", time)

    async def change(self, to: str, *given: object) -> None:
        async with session(self.pool) as connection:
            await connection.execute(
                f"UPDATE shipments SET {to} WHERE merchant = $1",  # noqa: S608 - the tests' own
                self.merchant,
                *given,
            )

    async def claim(self, limit: int = EVERYBODY) -> NewPickup:
        claim = await self.ledger.claim_new_pickup(limit, LEASE)
        assert claim is not None
        return claim

    async def claimed(self, limit: int = EVERYBODY) -> set[str]:
        return orders(await self.ledger.claim_new_pickup(limit, LEASE))

    async def created(self) -> set[str]:
        claim = await self.ledger.claim_created_pickup(LEASE)
        return {one.order_uid for one in claim.parcels} if claim else set()


def orders(claim: NewPickup | None) -> set[str]:
    return {one.order_uid for one in claim.parcels} if claim else set()


async def test_a_pickup_is_created_and_booked_once(desk: Desk) -> None:
    waiting = await desk.bring(3)
    claim = await desk.claim()
    assert orders(claim) == waiting
    assert (await desk.claimed(), await desk.created()) == (set(), set()), "one scheduler at a time"
    await desk.ledger.record_pickup_created(claim.batch, "pickup_1")
    made = await desk.ledger.claim_created_pickup(LEASE)
    assert made is not None
    assert (made.batch, made.pickup_id) == (claim.batch, "pickup_1"), "at once"
    assert await desk.created() == set()
    await desk.wait(HOUR)
    assert await desk.created() == waiting, "after its lease"
    await desk.ledger.record_pickup_booked(claim.batch, "PU-1")
    await desk.wait(HOUR)
    assert (await desk.claimed(), await desk.created()) == (set(), set())


async def test_a_pickup_that_is_not_booked_keeps_nobody_waiting(desk: Desk) -> None:
    first = await desk.bring(1)
    await desk.ledger.record_pickup_created((await desk.claim()).batch, "pickup_1")
    assert await desk.created() == first
    await desk.wait(HOUR)
    other = await desk.bring(1)
    assert await desk.claimed() == other
    claim = await desk.ledger.claim_created_pickup(LEASE)
    assert claim is not None
    await desk.ledger.give_up_pickup(claim.batch, HOUR)
    assert (await desk.claimed(), await desk.created()) == (set(), set()), "it waits"
    await desk.wait(HOUR)
    assert not first & await desk.claimed(), "for more than the pause"
    await desk.wait(HOUR + timedelta(seconds=LEASE))
    again = await desk.claim()
    assert first <= orders(again)
    assert again.batch != claim.batch


async def test_those_that_were_given_up_come_back_one_after_the_other(desk: Desk) -> None:
    await desk.bring(20)
    await desk.ledger.give_up_pickup((await desk.claim()).batch, HOUR)
    await desk.wait(HOUR * 1.5 + timedelta(seconds=LEASE))
    assert 0 < len(await desk.claimed()) < 20


async def test_a_batch_is_split(desk: Desk) -> None:
    await desk.bring(4)
    claim = await desk.claim()
    kept, taken = claim.parcels[:1], claim.parcels[1:]
    other = await desk.ledger.split_pickup(claim.batch, taken)
    await desk.ledger.record_pickup_created(other, "pickup_2")
    assert await desk.created() == {one.order_uid for one in taken}
    await desk.ledger.give_up_pickup(claim.batch, HOUR)
    await desk.wait(HOUR * 3)
    assert await desk.claimed() == {one.order_uid for one in kept}


async def test_a_batch_that_another_process_claimed_is_left_to_it(desk: Desk) -> None:
    waiting = await desk.bring(2)
    slow = await desk.claim()
    await desk.wait(HOUR)
    quick = await desk.claim()
    assert orders(quick) == waiting
    other = await desk.ledger.split_pickup(slow.batch, slow.parcels[:1])
    for batch in (slow.batch, other):
        await desk.ledger.record_pickup_created(batch, "pickup_slow")
        await desk.ledger.give_up_pickup(batch, HOUR)
    assert await desk.created() == set()
    await desk.ledger.record_pickup_created(quick.batch, "pickup_quick")
    assert await desk.created() == waiting


async def test_the_oldest_claim_goes_first_after_those_that_were_never_claimed(desk: Desk) -> None:
    old = await desk.bring(2)
    assert await desk.claimed() == old
    await desk.wait(HOUR)
    middle = await desk.bring(2)
    assert await desk.claimed(2) == middle
    await desk.wait(HOUR)
    new = await desk.bring(2)
    assert [await desk.claimed(2) for _ in range(3)] == [new, old, middle]


async def test_what_needs_no_pickup_is_left_alone(desk: Desk) -> None:
    await desk.bring(1, bought_ago=timedelta(days=91))
    assert await desk.claimed() == set()
    for fact in (
        "state = 'Voided'",
        "tracking_status = 'InTransit'",
        "bought_at = now() - interval '91 days'",
    ):
        await desk.bring(1)
        batch = (await desk.claim()).batch
        await desk.ledger.record_pickup_created(batch, "pickup_1")
        await desk.change(fact)
        assert await desk.created() == set(), fact
        await desk.change("pickup = 'PU'")
