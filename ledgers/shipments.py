"""The port of the shipment ledger: what the shipment controller, the poller and the pickup scheduler need of
it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orderplane.ledgers.states import ShipmentState, TrackingStatus, VoidState


@dataclass(frozen=True, slots=True)
class Label:
    """Postage that was bought; `cost` is in minor units of `currency`."""

    tracking_code: str
    tracker_id: str
    tracking_url: str
    carrier: str
    service: str
    cost: int
    currency: str


@dataclass(frozen=True, slots=True)
class ShipmentEntry:
    """One shipment. With `buy_begun_at` set, a label may have been bought, whatever was answered."""

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
    """A shipment with a label that was claimed for polling or for a pickup."""

    merchant: str
    order_uid: str
    name: str
    provider_id: str
    tracking_code: str
    tracking_status: TrackingStatus
    poll_count: int


@dataclass(frozen=True, slots=True)
class PickupClaim:
    """Parcels that are to be collected together; `pickup_id` is the carrier's, None until it was created
    there."""

    batch: str
    parcels: Sequence[ShipmentRef]
    pickup_id: str | None


class ShipmentLedger(Protocol):
    """Labels that are bought and voided. Each method is one transaction.

    Raises (those with an order that change something): GateClosed where the order's row does not admit it.
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry for a Shipment of that name."""
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
        """Write down that this shipment's label is about to be bought. Needs OPEN."""
        ...

    async def record_label(
        self, merchant: str, order_uid: str, label: Label, *, now: datetime, next_poll_at: datetime
    ) -> ShipmentEntry:
        """A label was bought. OPEN: commit the stock, `order.shipped`. COMPENSATING: record it, to void it.

        Args:
            next_poll_at: When the carrier is first asked for the tracking status.
        """
        ...

    async def refuse(self, merchant: str, order_uid: str, reason: str, message: str) -> ShipmentEntry:
        """The carrier refuses the shipment. OPEN or COMPENSATING."""
        ...

    async def cancel(self, merchant: str, order_uid: str) -> ShipmentEntry:
        """No label was bought and none can be. Needs COMPENSATING."""
        ...

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        """The label is void: `shipment.cancelled`. Needs COMPENSATING."""
        ...

    async def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        """The parcel moved. The first scan seals the order as shipped; delivery is `order.delivered`.

        A voided label and an older tracking status change nothing.
        """
        ...

    async def claim_due_for_polling(self, now: datetime, limit: int, lease: float) -> Sequence[ShipmentRef]:
        """Claim shipments whose poll is due, for `lease` seconds."""
        ...

    async def schedule_polls(self, parcels: Sequence[ShipmentRef], at: Sequence[datetime]) -> None:
        """Set when each of them is polled next."""
        ...

    async def claim_pickup(self, now: datetime, limit: int, lease: float) -> PickupClaim | None:
        """Claim parcels that wait for a pickup, for `lease` seconds; None where there are none.

        A batch whose pickup was created at the carrier and not booked is claimed again as it is, first.
        """
        ...

    async def record_pickup_created(self, batch: str, pickup_id: str) -> bool:
        """The carrier has created the batch's pickup; False where another process claimed it meanwhile."""
        ...

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        """The batch's pickup is booked."""
        ...
