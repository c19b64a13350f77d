"""Follow parcels and book their collection.

Both go by the ledger, not by resources: a parcel is followed to its end even where nobody keeps its
Shipment any more.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from orderplane.controllers.engine.queue import Key
from orderplane.controllers.errors import Refused, Transient
from orderplane.controllers.gate import GateClosed
from orderplane.controllers.shipment.ledger import ParcelLedger, ParcelRef
from orderplane.controllers.shipment.ports import Carrier
from orderplane.crds.meta import Kind

log = structlog.get_logger(__name__)

BATCH = 50
LEASE_SECONDS = 30.0


class ParcelWatch:
    """Asks the carrier about parcels that are due, a batch at a time.

    Args:
        first: How soon a parcel is asked for again after it moved or was bought.
        longest: The pause that the polls of one parcel grow to.
    """

    def __init__(
        self,
        ledger: ParcelLedger,
        carrier: Carrier,
        wake: Callable[[Kind, Key], None],
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

    async def run(self) -> None:
        """Go on until cancelled."""
        pause = self._first.total_seconds()
        while True:
            try:
                is_busy = await self.track() | await self.collect()
            except (Transient, Refused, GateClosed) as problem:
                log.warning("the carrier could not be asked", why=str(problem))
                is_busy = False
            except Exception:
                # One bad answer must not stop the following of every other parcel.
                log.exception("following parcels failed")
                is_busy = False
            if not is_busy:
                await asyncio.sleep(pause)

    async def track(self) -> bool:
        """Ask about one batch; answers whether there may be more."""
        now = self._clock()
        parcels = await self._ledger.due_for_tracking(now, BATCH, LEASE_SECONDS)
        if not parcels:
            return False
        updates = await self._carrier.track([parcel.tracking_code for parcel in parcels])
        by_code = {update.tracking_code: update for update in updates}
        for parcel in parcels:
            update = by_code.get(parcel.tracking_code)
            if update is not None and update.whereabouts is not parcel.whereabouts:
                await self._ledger.record_whereabouts(parcel.merchant, parcel.order_uid, update.whereabouts)
                self._announce(parcel)
        await self._ledger.track_again(parcels, [now + self.pause(parcel.polls) for parcel in parcels])
        return len(parcels) == BATCH

    async def collect(self) -> bool:
        """Book one collection for what waits; answers whether there may be more."""
        claim = await self._ledger.claim_pickup(self._clock(), BATCH, LEASE_SECONDS)
        if claim is None:
            return False
        batch, parcels = claim
        pickup = await self._carrier.schedule_pickup(
            [parcel.provider_id for parcel in parcels], reference=batch
        )
        await self._ledger.record_pickup(batch, pickup.confirmation)
        return len(parcels) == BATCH

    def pause(self, polls: int) -> timedelta:
        """Exponential from `first` to `longest`."""
        grown: timedelta = self._first * (1 << min(polls // 8, 16))
        return min(self._longest, grown)

    def _announce(self, parcel: ParcelRef) -> None:
        self._wake(Kind.SHIPMENT, (parcel.merchant, parcel.name))
        self._wake(Kind.ORDER, (parcel.merchant, parcel.name[:-9]))
