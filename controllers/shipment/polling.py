"""What is done at the carrier for many parcels at a time, apart from any one Shipment.

Where parcels are, and their pickup. Both go by the ledger, not by resources: a parcel is followed to its end
even where its Shipment is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from orderplane.controllers.engine.queue import Enqueue
from orderplane.controllers.shipment.ports import Carrier
from orderplane.crds.meta import Kind
from orderplane.ledgers.errors import GateClosed, Refused, Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.shipments import ShipmentLedger, ShipmentRef

log = structlog.get_logger(__name__)

BATCH = 50
LEASE_SECONDS = 30.0


async def poll(step: Callable[[], Awaitable[bool]], pause: timedelta) -> None:
    """Repeat `step` until cancelled, at once while it answers True, else after `pause`."""
    while True:
        try:
            is_busy = await step()
        except (Transient, Refused, GateClosed) as problem:
            log.warning("polling the carrier failed", why=str(problem))
            is_busy = False
        except Exception:
            # One bad answer must not stop the polling of every other parcel.
            log.exception("polling the carrier failed")
            is_busy = False
        if not is_busy:
            await asyncio.sleep(pause.total_seconds())


class TrackingPoller:
    """Asks the carrier where parcels are, a batch at a time, until they are delivered.

    Args:
        first: How soon the carrier is asked again about a parcel that moved or was bought.
        longest: The pause that the polls of one parcel grow to.
    """

    def __init__(
        self,
        ledger: ShipmentLedger,
        carrier: Carrier,
        enqueue: Enqueue[Gate],
        now: Callable[[], datetime],
        *,
        first: timedelta,
        longest: timedelta,
    ) -> None:
        self._ledger = ledger
        self._carrier = carrier
        self._enqueue = enqueue
        self._now = now
        self._first = first
        self._longest = longest

    async def track(self) -> bool:
        """Ask about one batch; answers whether there may be more.

        Raises:
            Transient, Refused: the carrier's answer; the batch can be claimed again when its lease is over.
        """
        now = self._now()
        parcels = await self._ledger.claim_due_for_polling(now, BATCH, LEASE_SECONDS)
        if not parcels:
            return False
        updates = await self._carrier.track([parcel.tracking_code for parcel in parcels])
        by_code = {update.tracking_code: update for update in updates}
        for parcel in parcels:
            update = by_code.get(parcel.tracking_code)
            if update is not None and update.tracking_status is not parcel.tracking_status:
                await self._ledger.record_tracking_status(
                    parcel.merchant, parcel.order_uid, update.tracking_status
                )
                self._notify(parcel)
        await self._ledger.schedule_polls(
            parcels, [now + self.pause(parcel.poll_count) for parcel in parcels]
        )
        return len(parcels) == BATCH

    def pause(self, polls: int) -> timedelta:
        """Exponential from `first` to `longest`."""
        grown: timedelta = self._first * (1 << min(polls // 8, 16))
        return min(self._longest, grown)

    def _notify(self, parcel: ShipmentRef) -> None:
        self._enqueue(Kind.SHIPMENT, (parcel.merchant, parcel.name))
        self._enqueue(Kind.ORDER, (parcel.merchant, parcel.name[:-9]))


class PickupScheduler:
    """Books pickups for parcels that wait for one, many parcels at a time.

    Two calls, like the label itself: creating a pickup costs nothing, and booking goes by its id. So after an
    unclear answer it is looked up instead of created again.
    """

    def __init__(self, ledger: ShipmentLedger, carrier: Carrier, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._carrier = carrier
        self._now = now

    async def book(self) -> bool:
        """Book one pickup; answers whether more parcels may wait.

        Raises:
            Transient, Refused: the carrier's answer; the batch can be claimed again when its lease is over.
        """
        claim = await self._ledger.claim_pickup(self._now(), BATCH, LEASE_SECONDS)
        if claim is None:
            return False
        pickup_id = claim.pickup_id
        if pickup_id is None:
            shipments = [parcel.provider_id for parcel in claim.parcels]
            pickup_id = await self._carrier.create_pickup(shipments, reference=claim.batch)
            if not await self._ledger.record_pickup_created(claim.batch, pickup_id):
                return True
        await self._ledger.record_pickup_booked(claim.batch, await self._carrier.book_pickup(pickup_id))
        return len(claim.parcels) == BATCH
