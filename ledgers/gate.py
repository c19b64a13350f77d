"""The gate: what every effect of an order must pass, and what the ledgers say of that order.

One row per order in PostgreSQL decides whether its saga moves forward, is undone, or is over. Watch
caches are several and stale, so money and stock are decided here and nowhere else.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from orderplane.crds.order import Compensation, Order


class GateState(StrEnum):
    """OPEN admits holds, charges and labels; COMPENSATING admits their undoing; SEALED admits nothing."""

    OPEN = "Open"
    COMPENSATING = "Compensating"
    SEALED = "Sealed"


class Outcome(StrEnum):
    """How an order ended. SHIPPED means the carrier has it: past the point of no return."""

    SHIPPED = "Shipped"
    DELIVERED = "Delivered"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class ReservationState(StrEnum):
    """One reservation in the stock ledger."""

    HELD = "Held"
    PINNED = "Pinned"  # a payment was begun: it cannot expire any more
    COMMITTED = "Committed"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    LOST = "Lost"
    RELEASED = "Released"


class PaymentState(StrEnum):
    """One payment in the payment ledger."""

    INTENDED = "Intended"
    CAPTURED = "Captured"
    DECLINED = "Declined"
    CANCELLED = "Cancelled"
    REFUNDED = "Refunded"


class ShipmentState(StrEnum):
    """One shipment in the shipment ledger."""

    INTENDED = "Intended"
    BOUGHT = "Bought"
    REFUSED = "Refused"
    VOIDED = "Voided"  # the carrier took the label back
    CANCELLED = "Cancelled"  # no label was ever bought


class TrackingStatus(StrEnum):
    """Where the parcel is."""

    PRE_TRANSIT = "PreTransit"
    IN_TRANSIT = "InTransit"
    DELIVERED = "Delivered"
    RETURNED = "Returned"


@dataclass(frozen=True, slots=True)
class Gate:
    """One order's row with the state of its three ledgers, read in one snapshot.

    `reservation`, `payment` and `shipment` are None where that step was never begun. `reason` and
    `message` tell why the order is undone (`is_cancel`: because somebody asked for it);
    `reservation_message` and the like are the reasons that the step's own ledger gave.
    """

    merchant: str
    uid: str
    name: str
    state: GateState
    outcome: Outcome | None = None
    reason: str | None = None
    message: str | None = None
    is_cancel: bool = False
    reservation: ReservationState | None = None
    reservation_message: str | None = None
    payment: PaymentState | None = None
    payment_reason: str | None = None
    payment_message: str | None = None
    shipment: ShipmentState | None = None
    shipment_reason: str | None = None
    shipment_message: str | None = None
    tracking_status: TrackingStatus = TrackingStatus.PRE_TRANSIT
    tracking_code: str | None = None
    tracking_url: str | None = None
    carrier: str | None = None
    finished_at: datetime | None = None

    def advanced(self, reservation: ReservationState, payment: PaymentState | None = None) -> "Gate | None":
        """As it is after a step forward; None where it was not open: whoever wants to know has to read it."""
        return (
            replace(self, reservation=reservation, payment=payment) if self.state is GateState.OPEN else None
        )

    @property
    def is_shipment_settled(self) -> bool:
        """No label is out there, and none can come: money and stock may be given back."""
        return self.shipment in (None, ShipmentState.REFUSED, ShipmentState.VOIDED, ShipmentState.CANCELLED)

    @property
    def is_compensated(self) -> bool:
        """Nothing of this order is held, charged or labelled any more."""
        return (
            self.is_shipment_settled
            and self.payment in (None, PaymentState.CANCELLED, PaymentState.REFUNDED)
            and self.reservation
            not in (ReservationState.HELD, ReservationState.PINNED, ReservationState.COMMITTED)
        )


class GateLedger(Protocol):
    """The row per order that every effect must pass. Each method is one transaction."""

    async def read(self, merchant: str, uid: str) -> Gate | None:
        """The row with its three ledgers, in one snapshot; None where the order was never opened."""
        ...

    async def open(self, order: Order) -> Gate:
        """Make the row and `order.created`, or answer the row that is there."""
        ...

    async def compensate(
        self, merchant: str, uid: str, *, reason: str, message: str, is_cancel: bool
    ) -> Gate:
        """Decide that the order is undone; the first reason stays. Answers the row as it is then."""
        ...

    async def seal(self, merchant: str, uid: str) -> Gate:
        """End an order that is being undone, with `order.failed` or `order.cancelled`.

        Answers the row as it is: still COMPENSATING where a ledger holds something yet.
        """
        ...

    async def unsealed(self, merchant: str, name: str) -> tuple[Gate, ...]:
        """The rows under that name that are not over: one, unless an order of the same name vanished."""
        ...

    async def unsealed_page(self, after: tuple[str, str] | None, limit: int) -> tuple[Gate, ...]:
        """All rows that are not over, a page at a time, by merchant and uid."""
        ...

    async def compensation(self, merchant: str, uid: str) -> tuple[Compensation, ...]:
        """What was undone so far, from the history."""
        ...
