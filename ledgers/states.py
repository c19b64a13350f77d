"""The states of every ledger and the changes that are allowed between them.

The SQL of `ledgers/postgres`, the triggers of the schema, the in-memory model and the audit all follow
these tables; `tests/ledgers/test_transitions.py` walks every pair of states on both implementations. An
update that leaves a state as it is is not a transition and is always allowed.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

S = TypeVar("S", bound=StrEnum)

Transitions: TypeAlias = Mapping[S, frozenset[S]]
"""For each state, the states that may follow it."""


class IllegalTransition(AssertionError):  # noqa: N818
    """A ledger was asked for a change of state that its table does not allow: a defect of the caller."""


def change(transitions: Transitions[S], before: S, after: S) -> S:
    """Return `after`, the state that an entry in state `before` is to get.

    Raises:
        IllegalTransition: the table does not allow it.
    """
    if before is not after and after not in transitions[before]:
        raise IllegalTransition(f"{type(before).__name__} cannot change from {before} to {after}")
    return after


class GateState(StrEnum):
    """OPEN admits steps forward, COMPENSATING admits compensation, SEALED admits nothing that moves."""

    OPEN = "Open"
    COMPENSATING = "Compensating"
    SEALED = "Sealed"


GATE_TRANSITIONS: Transitions[GateState] = {
    # The first carrier scan seals an open order as shipped.
    GateState.OPEN: frozenset({GateState.COMPENSATING, GateState.SEALED}),
    # Never back to OPEN: effects may be compensated already.
    GateState.COMPENSATING: frozenset({GateState.SEALED}),
    GateState.SEALED: frozenset(),
}


class Outcome(StrEnum):
    """How an order ended; set when its gate is sealed. SHIPPED: the carrier has scanned the parcel. It is
    finished when it is delivered, or when it came back and that is settled."""

    SHIPPED = "Shipped"
    DELIVERED = "Delivered"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


OUTCOME_TRANSITIONS: Transitions[Outcome] = {
    # The only change after the seal: it moves neither stock nor money.
    Outcome.SHIPPED: frozenset({Outcome.DELIVERED}),
    Outcome.DELIVERED: frozenset(),
    Outcome.FAILED: frozenset(),
    Outcome.CANCELLED: frozenset(),
}

GOODS_LEFT = frozenset({Outcome.SHIPPED, Outcome.DELIVERED})
"""The outcomes with which the goods have left and the money is kept."""


class ReservationState(StrEnum):
    """One reservation in the stock ledger."""

    HELD = "Held"
    PINNED = "Pinned"  # its payment was begun: it cannot expire any more
    COMMITTED = "Committed"  # the goods have left, on_hand is reduced
    REJECTED = "Rejected"  # there was not enough stock
    EXPIRED = "Expired"
    LOST = "Lost"  # a recount found less than was promised
    RELEASED = "Released"


RESERVATION_TRANSITIONS: Transitions[ReservationState] = {
    ReservationState.HELD: frozenset(
        {ReservationState.PINNED, ReservationState.EXPIRED, ReservationState.LOST, ReservationState.RELEASED}
    ),
    ReservationState.PINNED: frozenset(
        {ReservationState.COMMITTED, ReservationState.LOST, ReservationState.RELEASED}
    ),
    # The label was voided before the carrier had the parcel: the goods are returned to stock.
    ReservationState.COMMITTED: frozenset({ReservationState.RELEASED}),
    # The carrier scanned the parcel although a recount had taken its goods: they have left.
    ReservationState.LOST: frozenset({ReservationState.COMMITTED}),
    ReservationState.REJECTED: frozenset(),
    ReservationState.EXPIRED: frozenset(),
    ReservationState.RELEASED: frozenset(),
}

RESERVING = frozenset({ReservationState.HELD, ReservationState.PINNED})
"""The states in which a reservation's quantities count into `stock.reserved`."""

RELEASABLE = RESERVING | {ReservationState.COMMITTED}
"""The states in which stock is taken for an order, and is given back where the order is compensated."""


class StockMovementKind(StrEnum):
    """Why a quantity of the stock changed."""

    HOLD = "Hold"
    RELEASE = "Release"
    EXPIRE = "Expire"
    LOSE = "Lose"
    COMMIT = "Commit"
    RETURN = "Return"
    RECOUNT = "Recount"
    ADJUST = "Adjust"


CORRECTIONS = frozenset({StockMovementKind.RECOUNT, StockMovementKind.ADJUST})
"""The kinds of movement that a merchant makes; they change `on_hand` alone and name no reservation."""


class PaymentState(StrEnum):
    """One payment in the payment ledger."""

    INTENDED = "Intended"
    CAPTURED = "Captured"
    DECLINED = "Declined"
    CANCELLED = "Cancelled"
    REFUNDED = "Refunded"


PAYMENT_TRANSITIONS: Transitions[PaymentState] = {
    PaymentState.INTENDED: frozenset({PaymentState.CAPTURED, PaymentState.DECLINED, PaymentState.CANCELLED}),
    # A charge can land after its decline was recorded; money that was taken is always recorded.
    PaymentState.DECLINED: frozenset({PaymentState.CAPTURED, PaymentState.CANCELLED}),
    PaymentState.CAPTURED: frozenset({PaymentState.REFUNDED}),
    PaymentState.CANCELLED: frozenset(),
    PaymentState.REFUNDED: frozenset(),
}

EVER_CAPTURED = frozenset({PaymentState.CAPTURED, PaymentState.REFUNDED})
"""The states of a payment whose money was taken, whether or not it was given back."""


class RefundState(StrEnum):
    """One refund in the payment ledger."""

    REQUESTED = "Requested"
    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SETTLED_BY_HAND = "SettledByHand"  # a person paid it back outside of the provider and signed for it
    NOT_NEEDED = "NotNeeded"  # all of the money was withdrawn before it was made


REFUND_TRANSITIONS: Transitions[RefundState] = {
    RefundState.REQUESTED: frozenset(
        {RefundState.PENDING, RefundState.SUCCEEDED, RefundState.FAILED, RefundState.NOT_NEEDED}
    ),
    RefundState.PENDING: frozenset({RefundState.SUCCEEDED, RefundState.FAILED}),
    # A failed refund is requested again under another key; its first try may still turn out to have landed.
    RefundState.FAILED: frozenset(
        {
            RefundState.REQUESTED,
            RefundState.PENDING,
            RefundState.SUCCEEDED,
            RefundState.SETTLED_BY_HAND,
            RefundState.NOT_NEEDED,
        }
    ),
    RefundState.SUCCEEDED: frozenset(),
    RefundState.SETTLED_BY_HAND: frozenset(),
    RefundState.NOT_NEEDED: frozenset(),
}

NOT_MADE = frozenset({RefundState.REQUESTED, RefundState.FAILED})
"""The states of a refund of which the provider has nothing."""

UNSETTLED = NOT_MADE | {RefundState.PENDING}
"""The states of a refund whose money the customer does not have yet."""

PAID_BACK = frozenset({RefundState.SUCCEEDED, RefundState.SETTLED_BY_HAND})
"""The states of a refund whose money the customer has again."""


class ShipmentState(StrEnum):
    """One shipment in the shipment ledger."""

    INTENDED = "Intended"
    BOUGHT = "Bought"
    REFUSED = "Refused"  # by the carrier
    VOIDED = "Voided"  # the carrier took the label back
    CANCELLED = "Cancelled"  # no label was ever bought
    STRAY = "Stray"  # a label was bought after it was settled that there is none: it has to be voided
    DISCARDED = "Discarded"  # the carrier took a stray label back


SHIPMENT_TRANSITIONS: Transitions[ShipmentState] = {
    ShipmentState.INTENDED: frozenset({ShipmentState.BOUGHT, ShipmentState.REFUSED, ShipmentState.CANCELLED}),
    ShipmentState.BOUGHT: frozenset({ShipmentState.VOIDED}),
    # A purchase landed later than any settle time. Whether the order is sealed or not, its label is voided.
    ShipmentState.REFUSED: frozenset({ShipmentState.STRAY}),
    ShipmentState.CANCELLED: frozenset({ShipmentState.STRAY}),
    ShipmentState.STRAY: frozenset({ShipmentState.DISCARDED}),
    ShipmentState.VOIDED: frozenset(),
    ShipmentState.DISCARDED: frozenset(),
}

LABEL_ALIVE = frozenset({ShipmentState.BOUGHT, ShipmentState.STRAY})
"""The states in which the carrier has sold a label and not taken it back."""

LABEL_POSSIBLE = LABEL_ALIVE | {ShipmentState.INTENDED}
"""The states in which a valid label exists or may still come to exist; stock and money are not given back."""


class VoidState(StrEnum):
    """What the carrier answered when it was asked to take a label back."""

    NONE = "None"  # it was not asked
    SUBMITTED = "Submitted"  # accepted: the label is void, its cost is settled later
    REFUNDED = "Refunded"
    REJECTED = "Rejected"  # the label was used, or is too old: it is still valid
    NOT_APPLICABLE = "NotApplicable"  # given up, and its cost is not given back
    SETTLED_BY_HAND = "SettledByHand"  # a person made sure that the label is not used, and signed for it


VOID_TRANSITIONS: Transitions[VoidState] = {
    # How the carrier settles the cost of a label that it took back is not followed.
    # By hand at once: a parcel that travels for an order that was undone.
    VoidState.NONE: frozenset(set(VoidState) - {VoidState.NONE}),
    # A person can ask again, or settle it.
    VoidState.REJECTED: frozenset(
        {VoidState.SUBMITTED, VoidState.REFUNDED, VoidState.NOT_APPLICABLE, VoidState.SETTLED_BY_HAND}
    ),
    VoidState.SUBMITTED: frozenset(),
    VoidState.REFUNDED: frozenset(),
    VoidState.NOT_APPLICABLE: frozenset(),
    VoidState.SETTLED_BY_HAND: frozenset(),
}

STILL_VALID = frozenset({VoidState.NONE, VoidState.REJECTED})
"""The answers after which a label can still be used."""


class TrackingStatus(StrEnum):
    """Where the carrier says that a parcel is; docs/parcels.md says what each means for goods and money."""

    PRE_TRANSIT = "PreTransit"
    IN_TRANSIT = "InTransit"
    DELIVERED = "Delivered"
    RETURNED = "Returned"
    FAILED = "Failed"  # it could not be delivered, or is lost
    CANCELLED = "Cancelled"  # the carrier has cancelled the transport
    UNCLEAR = "Unclear"  # the tracking is broken, or the carrier says what nobody documented


_TROUBLE = frozenset({TrackingStatus.FAILED, TrackingStatus.CANCELLED, TrackingStatus.UNCLEAR})
_ON_ITS_WAY = _TROUBLE | {TrackingStatus.IN_TRANSIT}

NOT_DELIVERED = _TROUBLE | {TrackingStatus.RETURNED}
"""The statuses of a parcel that has left and does not reach the customer; a person has to look."""

TRACKING_TRANSITIONS: Transitions[TrackingStatus] = {
    # Never back: polls are answered late and out of order. What has left does not come to be at home again.
    TrackingStatus.PRE_TRANSIT: frozenset(set(TrackingStatus) - {TrackingStatus.PRE_TRANSIT}),
    # Trouble passes, as with the weather; an older answer that wins is corrected by the next poll.
    **{
        status: (_ON_ITS_WAY | {TrackingStatus.RETURNED, TrackingStatus.DELIVERED}) - {status}
        for status in sorted(_ON_ITS_WAY)
    },
    # Carriers deliver on a second attempt what was on its way back, and lose it as well.
    TrackingStatus.RETURNED: _TROUBLE | {TrackingStatus.DELIVERED},
    TrackingStatus.DELIVERED: frozenset(),
}


STATE_COLUMNS: Mapping[tuple[str, str], Transitions[Any]] = {
    ("orders", "state"): GATE_TRANSITIONS,
    ("orders", "outcome"): OUTCOME_TRANSITIONS,
    ("reservations", "state"): RESERVATION_TRANSITIONS,
    ("payments", "state"): PAYMENT_TRANSITIONS,
    ("refunds", "state"): REFUND_TRANSITIONS,
    ("shipments", "state"): SHIPMENT_TRANSITIONS,
    ("shipments", "void_state"): VOID_TRANSITIONS,
    ("shipments", "tracking_status"): TRACKING_TRANSITIONS,
}
"""The table and column in which PostgreSQL keeps each of them."""
