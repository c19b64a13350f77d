"""What is done at the carrier for many parcels at a time, apart from any one Shipment.

Where parcels are, and their pickup. Both go by the ledger, not by resources: a parcel is followed to its end
even where its Shipment is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from orderplane.controllers.engine.queue import Enqueue
from orderplane.controllers.shipment.ports import Carrier, TrackingUpdate
from orderplane.crds.meta import Kind
from orderplane.ledgers.errors import GateClosed, Refused, Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.shipments import ParcelLedger, ShipmentLedger, ShipmentRef
from orderplane.ledgers.states import TrackingStatus

log = structlog.get_logger(__name__)

BATCH = 50
LEASE_SECONDS = 30.0

LOOK_AGAIN_SHARE = 10
"""So many settle times after a shipment ended without a label, the carrier is asked once more for one."""
LOOKS = 3
LOOK_GROWTH = 12
"""How often it is asked, and how much longer each pause is: 30 s make 5 minutes, 1 hour and 12 hours."""


async def poll(step: Callable[[], Awaitable[bool]], pause: timedelta, beat: Callable[[], None]) -> None:
    """Repeat `step` until cancelled, at once while it answers True, else after `pause`; `beat` each time."""
    while True:
        beat()
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

    Shipments that ended without a label after a purchase was begun are looked at as well, a few times: the
    purchase may have landed later than anybody expected, and its answer may be lost.

    Args:
        first: How soon the carrier is asked again about a parcel that moved or was bought.
        longest: The pause that the polls of one parcel grow to.
        settle: How long a purchase may normally still land after it was sent.
    """

    def __init__(
        self,
        ledger: ShipmentLedger,
        parcels: ParcelLedger,
        carrier: Carrier,
        enqueue: Enqueue[Gate],
        *,
        first: timedelta,
        longest: timedelta,
        settle: timedelta,
    ) -> None:
        self._ledger = ledger
        self._parcels = parcels
        self._carrier = carrier
        self._enqueue = enqueue
        self._first = first
        self._longest = longest
        self._settle = settle

    async def track(self) -> bool:
        """Ask about one batch; answers whether there may be more.

        Raises:
            Transient, Refused: the carrier's answer; the batch can be claimed again when its lease is over.
        """
        parcels = await self._parcels.claim_due_for_polling(BATCH, LEASE_SECONDS)
        if not parcels:
            return False
        codes = [parcel.tracking_code for parcel in parcels if parcel.tracking_code is not None]
        updates = await self._carrier.track(codes)
        by_code = {update.tracking_code: update for update in updates}
        asked: list[ShipmentRef] = []
        for parcel in parcels:
            if parcel.tracking_code is None:
                if await self._find_label(parcel):
                    continue
            elif (update := by_code.get(parcel.tracking_code)) is not None:
                await self._record(parcel, update)
            asked.append(parcel)
        await self._parcels.schedule_polls(asked, [self.pause(parcel) for parcel in asked])
        return len(parcels) == BATCH

    def pause(self, parcel: ShipmentRef) -> timedelta | None:
        """Exponential from `first` to `longest`; without a label, a few looks and no more."""
        if parcel.tracking_code is None:
            is_enough = parcel.poll_count >= LOOKS
            return None if is_enough else self._settle * LOOK_AGAIN_SHARE * LOOK_GROWTH**parcel.poll_count
        grown: timedelta = self._first * (1 << min(parcel.poll_count // 8, 16))
        return min(self._longest, grown)

    async def _record(self, parcel: ShipmentRef, update: TrackingUpdate) -> None:
        if update.tracking_status is parcel.tracking_status:
            return
        if update.tracking_status is TrackingStatus.UNCLEAR:
            log.warning(
                "the carrier says what is not documented, or has no tracking; look at the parcel",
                tracking_code=parcel.tracking_code,
                status=update.word,
                key=f"{parcel.merchant}/{parcel.name}",
            )
        await self._ledger.record_tracking_status(parcel.merchant, parcel.order_uid, update.tracking_status)
        self._notify(parcel)

    async def _find_label(self, parcel: ShipmentRef) -> bool:
        try:
            found = await self._carrier.get(parcel.provider_id)
        except Refused as problem:
            log.warning("looking for a label failed", shipment=parcel.provider_id, why=str(problem))
            return False
        if found.label is None:
            return False
        await self._ledger.record_label(
            parcel.merchant, parcel.order_uid, found.label, first_poll=self._first
        )
        self._notify(parcel)
        return True

    def _notify(self, parcel: ShipmentRef) -> None:
        self._enqueue(Kind.SHIPMENT, (parcel.merchant, parcel.name))
        self._enqueue(Kind.ORDER, (parcel.merchant, parcel.name[:-9]))


class PickupScheduler:
    """Books pickups for parcels that wait for one, many parcels at a time.

    Two calls, like the label itself: creating a pickup costs nothing, and booking goes by its id. So after an
    unclear answer it is looked up instead of created again.
    """

    def __init__(self, parcels: ParcelLedger, carrier: Carrier) -> None:
        self._parcels = parcels
        self._carrier = carrier

    async def book(self) -> bool:
        """Book one pickup; answers whether more parcels may wait.

        Raises:
            Transient, Refused: the carrier's answer; the batch can be claimed again when its lease is over.
        """
        claim = await self._parcels.claim_pickup(BATCH, LEASE_SECONDS)
        if claim is None:
            return False
        pickup_id = claim.pickup_id
        if pickup_id is None:
            shipments = [parcel.provider_id for parcel in claim.parcels]
            pickup_id = await self._carrier.create_pickup(shipments, reference=claim.batch)
            if not await self._parcels.record_pickup_created(claim.batch, pickup_id):
                return True
        await self._parcels.record_pickup_booked(claim.batch, await self._carrier.book_pickup(pickup_id))
        return len(claim.parcels) == BATCH
