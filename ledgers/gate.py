"""The order gate: the row of an order that every effect passes, and what the three ledgers say of the order.

One row per order in PostgreSQL decides whether its saga moves forward, is compensated or is over. Watch
caches are several and stale, so stock and money are decided here and nowhere else.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from orderplane.crds.order import Compensation, Order
from orderplane.ledgers.states import (
    GOODS_LEFT,
    LABEL_POSSIBLE,
    RELEASABLE,
    GateState,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
)

CANCELLED_ON_REQUEST = "The order was cancelled on request."
"""The message of an order that somebody has cancelled."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One order's row with the state of its three ledgers, read in one snapshot.

    `reservation`, `payment` and `shipment` are None where that step was never begun. `reason` and `message`
    say why the order is compensated (`is_cancel`: somebody asked for it); `reservation_message` and the like
    are what the step's own ledger recorded. `seq` is the number of its newest event, `archived_version` the
    resourceVersion in which its Order was archived.
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
    seq: int = 0
    archived_version: int | None = None

    def advanced(self, reservation: ReservationState, payment: PaymentState | None = None) -> "Gate | None":
        """The gate after a step forward; None where it is not open: then it has to be read again."""
        if self.state is not GateState.OPEN:
            return None
        return replace(self, reservation=reservation, payment=payment)

    @property
    def is_returned(self) -> bool:
        """The carrier has brought the parcel back, and somebody has settled that: the order is over."""
        return self.outcome is Outcome.SHIPPED and self.finished_at is not None

    @property
    def is_leaving(self) -> bool:
        """Its Order was archived, and is leaving, or has left: a child that is not there is not missing."""
        return self.archived_version is not None

    @property
    def is_shipment_settled(self) -> bool:
        """No valid label exists and none can come to exist: money and stock may be given back."""
        return self.shipment not in LABEL_POSSIBLE

    @property
    def is_undone(self) -> bool:
        """The order is over, and nothing of it went out: no child of it is wanted any more."""
        return self.outcome is not None and self.outcome not in GOODS_LEFT

    @property
    def is_compensated(self) -> bool:
        """Nothing of this order is held, charged or labelled any more."""
        return (
            self.is_shipment_settled
            and self.payment in (None, PaymentState.CANCELLED, PaymentState.REFUNDED)
            and self.reservation not in RELEASABLE
        )


class GateLedger(Protocol):
    """The row of each order, which every effect passes. Each method is one transaction."""

    async def read(self, merchant: str, uid: str) -> Gate | None:
        """The row with its three ledgers; None where the order was never opened."""
        ...

    async def open(self, order: Order) -> Gate:
        """Insert the row with `order.created`; returns the row that is there if it was opened before."""
        ...

    async def compensate(
        self,
        merchant: str,
        uid: str,
        *,
        reason: str,
        message: str,
        is_cancel: bool,
        actor: str | None = None,
    ) -> Gate:
        """Decide that an open order is compensated; the first reason stays. Returns the row after it.

        One that is leaving the API server is compensated only where somebody asked for it: what is missing
        of it was deleted by us.

        Args:
            actor: Who asked for it, as in `crds.actors`.

        Raises:
            GateClosed: the order was never opened.
        """
        ...

    async def record_retry(self, merchant: str, uid: str, *, request: str, actor: str | None) -> None:
        """Record once that somebody asked to try an order again, with `order.retried`; nothing where it is
        sealed, which leaves nothing to try.

        Args:
            request: Tells one request from the next.

        Raises:
            GateClosed: the order was never opened.
        """
        ...

    async def seal(self, merchant: str, uid: str, *, is_vanished: bool = False) -> Gate:
        """End an order that is compensated, with `order.failed` or `order.cancelled`.

        Args:
            is_vanished: Its resource is gone, so there is nothing to archive.

        Returns the row after it: still COMPENSATING where a ledger holds something yet.

        Raises:
            GateClosed: the order was never opened.
        """
        ...

    async def unsealed(self, merchant: str, name: str) -> tuple[Gate, ...]:
        """The unsealed rows of that name: at most one, unless an order of the same name vanished."""
        ...

    async def unsealed_page(self, after: tuple[str, str] | None, limit: int) -> tuple[Gate, ...]:
        """All unsealed rows by merchant and uid, `limit` a page, from after `after`; but for open ones that
        have left, or are leaving: nothing is due of them."""
        ...

    async def compensation(self, merchant: str, uid: str) -> tuple[Compensation, ...]:
        """The compensation that was done so far, from the history."""
        ...
