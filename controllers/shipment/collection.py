"""Book the collection of bought parcels, many at a time.

Two calls, like the label itself: making a collection costs nothing, and booking goes by its id, so that
after an unclear answer it is looked at instead of made again.
"""

from collections.abc import Callable
from datetime import datetime

from orderplane.controllers.shipment.ports import Carrier
from orderplane.ledgers.shipments import ShipmentLedger

BATCH = 50
LEASE_SECONDS = 30.0


class PickupScheduler:
    """Books collections for what waits for one."""

    def __init__(self, ledger: ShipmentLedger, carrier: Carrier, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._carrier = carrier
        self._clock = clock

    async def book(self) -> bool:
        """Book one collection; answers whether more may wait.

        Raises:
            Transient, Refused: the carrier's answer; the claim comes again when its lease is over.
        """
        claim = await self._ledger.claim_pickup(self._clock(), BATCH, LEASE_SECONDS)
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
