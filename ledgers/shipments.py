"""What the shipment controller needs of the shipment ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from orderplane.ledgers.gate import ShipmentState, TrackingStatus


class VoidState(StrEnum):
    """How the carrier answered the wish to take a label back."""

    NONE = "None"  # nobody asked
    SUBMITTED = "Submitted"  # taken: the label is dead, its cost is settled later
    REFUNDED = "Refunded"
    REJECTED = "Rejected"  # the label was used, or is too old
    NOT_APPLICABLE = "NotApplicable"  # dead, and its cost is not given back


@dataclass(frozen=True, slots=True)
class Label:
    """Postage that was bought. `cost` is minor units of `currency`."""

    tracking_code: str
    tracker_id: str
    tracking_url: str
    carrier: str
    service: str
    cost: int
    currency: str


@dataclass(frozen=True, slots=True)
class ShipmentEntry:
    """One shipment. With `buy_begun_at` set, a label may have been bought, whatever we were answered."""

    order_uid: str
    state: ShipmentState
    provider_id: str | None
    rate_id: str | None
    buy_begun_at: datetime | None
    label: Label | None
    void: VoidState
    tracking_status: TrackingStatus
    pickup: str | None
    reason: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class ShipmentRef:
    """A bought shipment that somebody has to look after."""

    merchant: str
    order_uid: str
    name: str
    provider_id: str
    tracking_code: str
    tracking_status: TrackingStatus
    poll_count: int


@dataclass(frozen=True, slots=True)
class PickupClaim:
    """Parcels that are to be collected together. `pickup_id` is the carrier's, once it was made there."""

    batch: str
    parcels: Sequence[ShipmentRef]
    pickup_id: str | None


class ShipmentLedger(Protocol):
    """Labels that were bought and taken back. Each method is one transaction.

    Raises (those with an order): GateClosed where the order's row does not admit it.
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry that was made for a resource of that name."""
        ...

    async def read(self, merchant: str, order_uid: str) -> ShipmentEntry | None:
        """The entry; None where no shipment was ever begun."""
        ...

    async def intend(self, merchant: str, order_uid: str, *, name: str) -> ShipmentEntry:
        """Begin. Needs OPEN.

        Raises:
            Transient: not exactly the order's total is captured (`NotPaid`), or its stock is not pinned
                (`StockNotPinned`), whatever a resource says.
        """
        ...

    async def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, now: datetime
    ) -> ShipmentEntry:
        """Write down that buying this shipment's label is about to be tried. Needs OPEN."""
        ...

    async def record_label(
        self, merchant: str, order_uid: str, label: Label, *, now: datetime, next_poll_at: datetime
    ) -> ShipmentEntry:
        """A label was bought. OPEN: commit the stock, tell `order.shipped`. COMPENSATING: only note it.

        Args:
            next_poll_at: When the carrier is first asked where the parcel is.
        """
        ...

    async def refuse(self, merchant: str, order_uid: str, reason: str, message: str) -> ShipmentEntry:
        """The carrier will not take it. OPEN or COMPENSATING."""
        ...

    async def cancel(self, merchant: str, order_uid: str) -> ShipmentEntry:
        """No label was bought and none can be. Needs COMPENSATING."""
        ...

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        """The label is dead: `shipment.cancelled`. Needs COMPENSATING."""
        ...

    async def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        """The parcel moved. The first scan seals the order; delivery tells `order.delivered`.

        A label that was taken back is past moving: nothing changes.
        """
        ...

    async def claim_due_for_polling(self, now: datetime, limit: int, lease: float) -> Sequence[ShipmentRef]:
        """Claim parcels whose turn it is, for `lease` seconds."""
        ...

    async def schedule_polls(self, parcels: Sequence[ShipmentRef], at: Sequence[datetime]) -> None:
        """Say when each is asked for next."""
        ...

    async def claim_pickup(self, now: datetime, limit: int, lease: float) -> PickupClaim | None:
        """Claim parcels that wait for a collection, for `lease` seconds; None where there are none.

        A batch whose pickup was made at the carrier and not confirmed comes again as it is, first.
        """
        ...

    async def record_pickup_created(self, batch: str, pickup_id: str) -> bool:
        """The carrier knows this batch's pickup; False where the batch was given up meanwhile."""
        ...

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        """The collection of this batch is booked."""
        ...
