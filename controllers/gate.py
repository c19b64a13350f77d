"""The gate: what every effect of an order must pass, and what the ledgers say of that order.

One row per order in PostgreSQL decides whether its saga moves forward, is undone, or is over. Watch
caches are several and stale, so money and stock are decided here and nowhere else.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class GateState(StrEnum):
    """OPEN admits holds, charges and labels; UNDOING admits their undoing; SEALED admits nothing."""

    OPEN = "Open"
    UNDOING = "Undoing"
    SEALED = "Sealed"


class Outcome(StrEnum):
    """How an order ended. SHIPPED means the carrier has it: past the point of no return."""

    SHIPPED = "Shipped"
    DELIVERED = "Delivered"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class StockState(StrEnum):
    """One reservation in the stock ledger."""

    HELD = "Held"
    PINNED = "Pinned"  # a payment was begun: it cannot expire any more
    COMMITTED = "Committed"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    LOST = "Lost"
    RELEASED = "Released"


class MoneyState(StrEnum):
    """One payment in the payment ledger."""

    INTENDED = "Intended"
    CAPTURED = "Captured"
    DECLINED = "Declined"
    CANCELLED = "Cancelled"
    REFUNDED = "Refunded"


class ParcelState(StrEnum):
    """One shipment in the shipment ledger."""

    INTENDED = "Intended"
    BOUGHT = "Bought"
    REFUSED = "Refused"
    VOIDED = "Voided"  # the carrier took the label back
    CANCELLED = "Cancelled"  # no label was ever bought


class Whereabouts(StrEnum):
    """Where the parcel is."""

    PRE_TRANSIT = "PreTransit"
    IN_TRANSIT = "InTransit"
    DELIVERED = "Delivered"
    RETURNED = "Returned"


class GateClosed(Exception):  # noqa: N818
    """The order's row is not in a state that admits this effect; nothing was done."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One order's row with the state of its three ledgers, read in one snapshot.

    `stock`, `money` and `parcel` are None where that step was never begun. `reason` and `message` tell
    why it is undone (`is_cancel`: because somebody wished so); `stock_message` and the like what the
    step's own ledger gave as its reason.
    """

    merchant: str
    uid: str
    name: str
    state: GateState
    outcome: Outcome | None = None
    reason: str | None = None
    message: str | None = None
    is_cancel: bool = False
    stock: StockState | None = None
    stock_message: str | None = None
    money: MoneyState | None = None
    money_reason: str | None = None
    money_message: str | None = None
    parcel: ParcelState | None = None
    parcel_reason: str | None = None
    parcel_message: str | None = None
    whereabouts: Whereabouts = Whereabouts.PRE_TRANSIT
    tracking_code: str | None = None
    tracking_url: str | None = None
    carrier: str | None = None
    finished_at: datetime | None = None

    def advanced(self, stock: StockState, money: MoneyState | None = None) -> "Gate | None":
        """As it is after a step forward; None where it was not open: whoever wants to know has to read it."""
        return replace(self, stock=stock, money=money) if self.state is GateState.OPEN else None

    @property
    def is_parcel_settled(self) -> bool:
        """No label is out there, and none can come: money and stock may be given back."""
        return self.parcel in (None, ParcelState.REFUSED, ParcelState.VOIDED, ParcelState.CANCELLED)

    @property
    def is_undone(self) -> bool:
        """Nothing of this order is held, charged or labelled any more."""
        return (
            self.is_parcel_settled
            and self.money in (None, MoneyState.CANCELLED, MoneyState.REFUNDED)
            and self.stock not in (StockState.HELD, StockState.PINNED, StockState.COMMITTED)
        )
