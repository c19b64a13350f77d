"""What the shipment controller needs of the shipment ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orderplane.controllers.gate import ParcelState, Whereabouts
from orderplane.controllers.shipment.ports import Label, VoidState


@dataclass(frozen=True, slots=True)
class ParcelEntry:
    """One shipment. With `buy_begun_at` set, a label may have been bought, whatever we were answered."""

    order_uid: str
    state: ParcelState
    provider_id: str | None
    rate_id: str | None
    buy_begun_at: datetime | None
    label: Label | None
    void: VoidState
    whereabouts: Whereabouts
    pickup: str | None
    reason: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class ParcelRef:
    """A bought shipment that somebody has to look after."""

    merchant: str
    order_uid: str
    name: str
    provider_id: str
    tracking_code: str
    whereabouts: Whereabouts
    polls: int


@dataclass(frozen=True, slots=True)
class PickupClaim:
    """Parcels that are to be collected together. `pickup_id` is the carrier's, once it was made there."""

    batch: str
    parcels: Sequence[ParcelRef]
    pickup_id: str | None


class ParcelLedger(Protocol):
    """Labels that were bought and taken back. Each method is one transaction.

    Raises (those with an order): GateClosed where the order's row does not admit it.
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry that was made for a resource of that name."""
        ...

    async def read(self, merchant: str, order_uid: str) -> ParcelEntry | None:
        """The entry; None where no shipment was ever begun."""
        ...

    async def intend(self, merchant: str, order_uid: str, *, name: str) -> ParcelEntry:
        """Begin. Needs OPEN.

        Raises:
            Transient: not exactly the order's total is captured (`NotPaid`), or its stock is not pinned
                (`StockNotPinned`), whatever a resource says.
        """
        ...

    async def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, now: datetime
    ) -> ParcelEntry:
        """Write down that buying this shipment's label is about to be tried. Needs OPEN."""
        ...

    async def record_label(
        self, merchant: str, order_uid: str, label: Label, *, now: datetime, ask_at: datetime
    ) -> ParcelEntry:
        """A label was bought. OPEN: commit the stock, tell `order.shipped`. UNDOING: only note it.

        Args:
            ask_at: When the carrier is first asked where the parcel is.
        """
        ...

    async def refuse(self, merchant: str, order_uid: str, reason: str, message: str) -> ParcelEntry:
        """The carrier will not take it. OPEN or UNDOING."""
        ...

    async def cancel(self, merchant: str, order_uid: str) -> ParcelEntry:
        """No label was bought and none can be. Needs UNDOING."""
        ...

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ParcelEntry:
        """The label is dead: `shipment.cancelled`. Needs UNDOING."""
        ...

    async def record_whereabouts(
        self, merchant: str, order_uid: str, whereabouts: Whereabouts
    ) -> ParcelEntry:
        """The parcel moved. The first scan seals the order; delivery tells `order.delivered`.

        A label that was taken back is past moving: nothing changes.
        """
        ...

    async def due_for_tracking(self, now: datetime, limit: int, lease: float) -> Sequence[ParcelRef]:
        """Claim parcels whose turn it is, for `lease` seconds."""
        ...

    async def track_again(self, parcels: Sequence[ParcelRef], at: Sequence[datetime]) -> None:
        """Say when each is asked for next."""
        ...

    async def claim_pickup(self, now: datetime, limit: int, lease: float) -> PickupClaim | None:
        """Claim parcels that wait for a collection, for `lease` seconds; None where there are none.

        A batch whose pickup was made at the carrier and not confirmed comes again as it is, first.
        """
        ...

    async def record_pickup_made(self, batch: str, pickup_id: str) -> bool:
        """The carrier knows this batch's pickup; False where the batch was given up meanwhile."""
        ...

    async def record_pickup(self, batch: str, confirmation: str) -> None:
        """The collection of this batch is booked."""
        ...
