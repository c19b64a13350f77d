"""Parcels on their way, in PostgreSQL: claimed many at a time for polls and pickups."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

from orderplane.ledgers.postgres.session import Pool, Row, session
from orderplane.ledgers.shipments import CreatedPickup, NewPickup, ShipmentRef
from orderplane.ledgers.states import TrackingStatus

# SKIP LOCKED: two pollers claim different shipments. A parcel that was bought long ago is asked for once
# more, and then no longer: carriers use tracking codes again.
_CLAIM_DUE_FOR_POLLING = """
UPDATE shipments
SET poll_count = poll_count + 1,
    next_poll_at = CASE WHEN bought_at > now() - interval '90 days' OR bought_at IS NULL
        THEN clock_timestamp() + $2::interval END
WHERE (merchant, order_uid) IN (
    SELECT merchant, order_uid FROM shipments
    WHERE next_poll_at <= now() ORDER BY next_poll_at LIMIT $1 FOR UPDATE SKIP LOCKED
) RETURNING *
"""

# A shipment that was delivered or voided meanwhile is not polled again.
_SCHEDULE_POLLS = """
UPDATE shipments s SET next_poll_at = clock_timestamp() + t.pause
FROM unnest($1::text[], $2::uuid[], $3::interval[]) AS t (merchant, order_uid, pause)
WHERE s.merchant = t.merchant AND s.order_uid = t.order_uid AND s.next_poll_at IS NOT NULL
"""

# The claim is over when the lease has passed since `pickup_claimed_at`, which lies ahead where parcels were
# given up. Never claimed ones go first, then the oldest: what fails again and again stops nothing else.
_CLAIM_NEW_PICKUP = """
UPDATE shipments SET pickup_batch = $3, pickup_claimed_at = clock_timestamp()
WHERE (merchant, order_uid) IN (
    SELECT merchant, order_uid FROM shipments
    WHERE state = 'Bought' AND pickup IS NULL AND pickup_id IS NULL AND tracking_status = 'PreTransit'
      AND bought_at > now() - interval '90 days'
      AND (pickup_claimed_at IS NULL OR pickup_claimed_at < now() - $1::interval)
    ORDER BY pickup_claimed_at NULLS FIRST LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING *
"""

_SPLIT_PICKUP = """
UPDATE shipments s SET pickup_batch = $2, pickup_claimed_at = clock_timestamp()
FROM unnest($3::text[], $4::uuid[]) AS t (merchant, order_uid)
WHERE s.merchant = t.merchant AND s.order_uid = t.order_uid AND s.pickup_batch = $1 AND s.pickup_id IS NULL
"""

_RECORD_PICKUP_CREATED = """
UPDATE shipments SET pickup_id = $2, pickup_claimed_at = NULL WHERE pickup_batch = $1 AND pickup_id IS NULL
"""

_CLAIM_CREATED_PICKUP = """
UPDATE shipments SET pickup_claimed_at = clock_timestamp()
WHERE pickup IS NULL AND pickup_batch = (
    SELECT pickup_batch FROM shipments
    WHERE state = 'Bought' AND pickup IS NULL AND pickup_id IS NOT NULL AND tracking_status = 'PreTransit'
      AND bought_at > now() - interval '90 days'
      AND (pickup_claimed_at IS NULL OR pickup_claimed_at < now() - $1::interval)
    ORDER BY pickup_claimed_at NULLS FIRST LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING *
"""

_RECORD_PICKUP_BOOKED = "UPDATE shipments SET pickup = $2 WHERE pickup_batch = $1"

_GIVE_UP_PICKUP = """
UPDATE shipments
SET pickup_batch = NULL, pickup_id = NULL,
    pickup_claimed_at = clock_timestamp() + (1 + random()) * $2::interval
WHERE pickup_batch = $1 AND pickup IS NULL
"""


class PostgresParcelLedger:
    """Implements `ledgers.shipments.ParcelLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim_due_for_polling(self, limit: int, lease: float) -> Sequence[ShipmentRef]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_CLAIM_DUE_FOR_POLLING, limit, timedelta(seconds=lease))
        return [_ref(row) for row in rows]

    async def schedule_polls(
        self, parcels: Sequence[ShipmentRef], pauses: Sequence[timedelta | None]
    ) -> None:
        async with session(self._pool) as connection:
            await connection.execute(
                _SCHEDULE_POLLS,
                [parcel.merchant for parcel in parcels], [parcel.order_uid for parcel in parcels],
                list(pauses),
            )  # fmt: skip

    async def claim_new_pickup(self, limit: int, lease: float) -> NewPickup | None:
        batch = uuid4()
        async with session(self._pool) as connection:
            rows = await connection.fetch(_CLAIM_NEW_PICKUP, timedelta(seconds=lease), limit, batch)
        return NewPickup(str(batch), [_ref(row) for row in rows]) if rows else None

    async def split_pickup(self, batch: str, parcels: Sequence[ShipmentRef]) -> str:
        other = uuid4()
        async with session(self._pool) as connection:
            await connection.execute(
                _SPLIT_PICKUP,
                batch, other, [parcel.merchant for parcel in parcels],
                [parcel.order_uid for parcel in parcels],
            )  # fmt: skip
        return str(other)

    async def record_pickup_created(self, batch: str, pickup_id: str) -> None:
        async with session(self._pool) as connection:
            await connection.execute(_RECORD_PICKUP_CREATED, batch, pickup_id)

    async def claim_created_pickup(self, lease: float) -> CreatedPickup | None:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_CLAIM_CREATED_PICKUP, timedelta(seconds=lease))
        if not rows:
            return None
        return CreatedPickup(str(rows[0]["pickup_batch"]), [_ref(row) for row in rows], rows[0]["pickup_id"])

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        async with session(self._pool) as connection:
            await connection.execute(_RECORD_PICKUP_BOOKED, batch, confirmation)

    async def give_up_pickup(self, batch: str, pause: timedelta) -> None:
        async with session(self._pool) as connection:
            await connection.execute(_GIVE_UP_PICKUP, batch, pause)


def _ref(row: Row) -> ShipmentRef:
    return ShipmentRef(
        merchant=row["merchant"],
        order_uid=str(row["order_uid"]),
        name=row["name"],
        provider_id=row["provider_id"],
        tracking_code=row["tracking_code"],
        tracking_status=TrackingStatus(row["tracking_status"]),
        poll_count=row["poll_count"],
    )
