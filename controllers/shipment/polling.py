"""What is done at the carrier for many parcels at a time, apart from any one Shipment.

Where parcels are, and their pickup. Both go by the ledger, not by resources: a parcel is followed to its end
even where its Shipment is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
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

PICKUP_PAUSE = timedelta(hours=1)
"""Parcels whose pickup the carrier refused wait so long for another one, and up to twice so long."""


Beat = Callable[[], None]


async def poll(step: Callable[[Beat], Awaitable[bool]], pause: timedelta, beat: Beat) -> None:
    """Repeat `step` until cancelled, at once while it answers True, else after `pause`; `beat` each time.

    Args:
        step: Is given `beat`, for steps of many calls.
    """
    while True:
        beat()
        try:
            is_busy = await step(beat)
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

    async def track(self, beat: Beat = lambda: None) -> bool:
        """Ask about one batch; answers whether there may be more.

        A parcel that fails is logged and asked about again after its pause; the others go on.

        Raises:
            Transient: nothing could be asked or scheduled; the batch can be claimed again when its lease is
                over.
        """
        parcels = await self._parcels.claim_due_for_polling(BATCH, LEASE_SECONDS)
        if not parcels:
            return False
        codes = [parcel.tracking_code for parcel in parcels if parcel.tracking_code is not None]
        by_code = {update.tracking_code: update for update in await self._ask(codes, beat)}
        asked: list[ShipmentRef] = []
        for parcel in parcels:
            beat()
            if not await self._is_label_found(parcel, by_code):
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

    async def _ask(self, codes: Sequence[str], beat: Beat) -> Sequence[TrackingUpdate]:
        """Ask in one call; where the carrier refuses it, in halves, until the refused codes are alone."""
        if not codes:
            return ()
        beat()
        try:
            return await self._carrier.track(codes)
        except Refused as no:
            if len(codes) == 1:
                log.warning("the carrier refuses to track a parcel", tracking_code=codes[0], why=str(no))
                return ()
        half = len(codes) // 2
        return [*await self._ask(codes[:half], beat), *await self._ask(codes[half:], beat)]

    async def _is_label_found(self, parcel: ShipmentRef, by_code: Mapping[str, TrackingUpdate]) -> bool:
        """Do what is due for one parcel, and answer whether a lost label of it was found: then the ledger has
        scheduled it anew."""
        try:
            if parcel.tracking_code is None:
                return await self._find_label(parcel)
            if (update := by_code.get(parcel.tracking_code)) is not None:
                await self._record(parcel, update)
        except (Transient, Refused, GateClosed) as problem:
            log.warning("polling a parcel failed", key=_key(parcel), why=str(problem))
        except Exception:
            log.exception("polling a parcel failed", key=_key(parcel))
        return False

    async def _record(self, parcel: ShipmentRef, update: TrackingUpdate) -> None:
        if update.tracking_status is parcel.tracking_status:
            return
        if update.tracking_status is TrackingStatus.UNCLEAR:
            log.warning(
                "the carrier says what is not documented, or has no tracking; look at the parcel",
                tracking_code=parcel.tracking_code,
                status=update.word,
                key=_key(parcel),
            )
        await self._ledger.record_tracking_status(parcel.merchant, parcel.order_uid, update.tracking_status)
        self._notify(parcel)

    async def _find_label(self, parcel: ShipmentRef) -> bool:
        found = await self._carrier.get(parcel.provider_id)
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
    """Has parcels collected, many at a time: creates pickups at the carrier, and books them.

    Two calls, like the label itself: creating a pickup costs nothing, and booking goes by its id. So after an
    unclear answer it is looked up instead of created again. The two are polled apart: a pickup that cannot be
    booked keeps no parcel from a new one.
    """

    def __init__(self, parcels: ParcelLedger, carrier: Carrier) -> None:
        self._parcels = parcels
        self._carrier = carrier

    async def create(self, beat: Beat = lambda: None) -> bool:
        """Create a pickup for one batch of parcels that wait; answers whether more may wait.

        Raises:
            Transient: the carrier's answer; the parcels can be claimed again when their lease is over.
        """
        claim = await self._parcels.claim_new_pickup(BATCH, LEASE_SECONDS)
        if claim is None:
            return False
        is_any_created = await self._create(claim.batch, claim.parcels, beat)
        return is_any_created and len(claim.parcels) == BATCH

    async def book(self, _: Beat = lambda: None) -> bool:
        """Book one pickup that was created; answers whether more may wait.

        What the carrier refuses to book is given up.

        Raises:
            Transient: the carrier's answer; the pickup can be claimed again when its lease is over.
        """
        claim = await self._parcels.claim_created_pickup(LEASE_SECONDS)
        if claim is None:
            return False
        try:
            confirmation = await self._carrier.book_pickup(claim.pickup_id)
        except Refused as no:
            await self._give_up(claim.batch, claim.parcels, no)
        else:
            await self._parcels.record_pickup_booked(claim.batch, confirmation)
        return True

    async def _create(self, batch: str, parcels: Sequence[ShipmentRef], beat: Beat) -> bool:
        """Create one pickup; where the carrier refuses it, one for each half, until the refused parcels are
        alone. Answers whether any was created."""
        beat()
        try:
            pickup_id = await self._carrier.create_pickup(
                [parcel.provider_id for parcel in parcels], reference=batch
            )
        except Refused as no:
            if len(parcels) == 1:
                await self._give_up(batch, parcels, no)
                return False
        else:
            await self._parcels.record_pickup_created(batch, pickup_id)
            return True
        half = len(parcels) // 2
        other = await self._parcels.split_pickup(batch, parcels[half:])
        is_first_created = await self._create(batch, parcels[:half], beat)
        return await self._create(other, parcels[half:], beat) or is_first_created

    async def _give_up(self, batch: str, parcels: Sequence[ShipmentRef], no: Refused) -> None:
        log.warning(
            "the carrier refuses a pickup; another one is made later",
            parcels=[_key(parcel) for parcel in parcels],
            why=str(no),
        )
        await self._parcels.give_up_pickup(batch, PICKUP_PAUSE)


def _key(parcel: ShipmentRef) -> str:
    return f"{parcel.merchant}/{parcel.name}"
