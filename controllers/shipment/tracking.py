"""Follow parcels until they are delivered.

It goes by the ledger, not by resources: a parcel is followed to its end even where nobody keeps its
Shipment any more.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from orderplane.controllers.engine.queue import Wake
from orderplane.controllers.shipment.ports import Carrier
from orderplane.crds.meta import Kind
from orderplane.ledgers.shipments import ShipmentLedger, ShipmentRef

BATCH = 50
LEASE_SECONDS = 30.0


class TrackingPoller:
    """Asks the carrier about parcels that are due, a batch at a time.

    Args:
        first: How soon a parcel is asked for again after it moved or was bought.
        longest: The pause that the polls of one parcel grow to.
    """

    def __init__(
        self,
        ledger: ShipmentLedger,
        carrier: Carrier,
        wake: Wake,
        clock: Callable[[], datetime],
        *,
        first: timedelta,
        longest: timedelta,
    ) -> None:
        self._ledger = ledger
        self._carrier = carrier
        self._wake = wake
        self._clock = clock
        self._first = first
        self._longest = longest

    async def track(self) -> bool:
        """Ask about one batch; answers whether there may be more.

        Raises:
            Transient, Refused: the carrier's answer; the claims come again when their lease is over.
        """
        now = self._clock()
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
                self._announce(parcel)
        await self._ledger.schedule_polls(
            parcels, [now + self.pause(parcel.poll_count) for parcel in parcels]
        )
        return len(parcels) == BATCH

    def pause(self, polls: int) -> timedelta:
        """Exponential from `first` to `longest`."""
        grown: timedelta = self._first * (1 << min(polls // 8, 16))
        return min(self._longest, grown)

    def _announce(self, parcel: ShipmentRef) -> None:
        self._wake(Kind.SHIPMENT, (parcel.merchant, parcel.name))
        self._wake(Kind.ORDER, (parcel.merchant, parcel.name[:-9]))
