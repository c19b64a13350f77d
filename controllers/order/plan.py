"""What an Order needs next.

Pure: the same order, gate and children always give the same step. The plan reads what is, never which
event arrived. It answers one step; the next reconcile plans the next one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orderplane.controllers.order.children import Child, Children
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import COMPENSATE_FINALIZER, Kind
from orderplane.crds.order import Order, RefundSpec
from orderplane.crds.reasons import Reason, deleted
from orderplane.ledgers.gate import CANCELLED_ON_REQUEST, Gate
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import (
    RELEASABLE,
    GateState,
    PaymentState,
    ReservationState,
    ShipmentState,
)


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Insert the order's row, before anything else."""


@dataclass(frozen=True, slots=True)
class Compensate:
    """Decide that the order is compensated; children are deleted in a later step, once that is committed."""

    reason: str
    message: str
    is_cancel: bool = False
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class AskForRefund:
    """The order has ended, and its spec wants a refund that was never asked for: have the ledger decide."""

    wanted: RefundSpec


@dataclass(frozen=True, slots=True)
class Seal:
    """Everything is compensated: see that no child is left, and end the order."""


@dataclass(frozen=True, slots=True)
class VerifyMissing:
    """The ledger of this kind has begun, but the child is not in the cache: read whether it is gone."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Create:
    """Create the child of this kind."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete these children."""

    children: tuple[tuple[Kind, Child], ...]


@dataclass(frozen=True, slots=True)
class SettleOrphaned:
    """These ledgers hold something, but their children are gone: have them settled without."""

    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """See that no child is left, archive the order that is being deleted, and take its finalizer off."""


Decision = OpenGate | Compensate | Seal | AskForRefund
"""A step that the ledgers decide, after which everything is planned anew."""

Step = Decision | VerifyMissing | Create | Delete | SettleOrphaned | Release | Wait


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the saga: the child that stands for it, whether it was begun, whether it is done."""

    kind: Kind
    is_begun: Callable[[Gate], bool]
    is_done: Callable[[Gate], bool]


SAGA = (
    Stage(
        Kind.RESERVATION,
        lambda gate: gate.reservation is not None,
        lambda gate: gate.reservation in RELEASABLE,
    ),
    Stage(
        Kind.PAYMENT,
        lambda gate: gate.payment is not None,
        lambda gate: gate.payment is PaymentState.CAPTURED,
    ),
    Stage(
        Kind.SHIPMENT,
        lambda gate: gate.shipment is not None,
        lambda gate: gate.shipment is ShipmentState.BOUGHT,
    ),
)


def plan(
    order: Order,
    gate: Gate | None,
    children: Children,
    refunds: Sequence[RefundRequest] = (),
) -> Step:
    """Decide the next step of one order; `refunds` are those that were asked for after its end."""
    if gate is None:
        return OpenGate()
    match gate.state:
        case GateState.SEALED:
            return ask_for_refund(order, refunds) or retire(order, children)
        case GateState.COMPENSATING:
            return compensate(gate, children)
        case GateState.OPEN:
            return why_compensate(order, gate, children) or advance(gate, children)


def why_compensate(order: Order, gate: Gate, children: Children) -> Compensate | None:
    """The reason why an open order cannot, or shall not, go on."""
    if order.is_deleting:
        message = "The order was deleted before it was handed to the carrier."
        return Compensate(Reason.DELETED, message, is_cancel=True)
    if order.spec.cancel:
        return Compensate(
            Reason.CANCEL_REQUESTED, CANCELLED_ON_REQUEST, is_cancel=True, actor=order.cancelled_by
        )
    match gate.reservation:
        case ReservationState.REJECTED:
            return Compensate(Reason.OUT_OF_STOCK, gate.reservation_message or "There is not enough stock.")
        case ReservationState.EXPIRED:
            return Compensate(Reason.RESERVATION_EXPIRED, "The stock was kept until its time was over.")
        case ReservationState.LOST:
            return Compensate(Reason.STOCK_LOST, "A recount found less stock than was promised.")
    if gate.payment is PaymentState.DECLINED:
        return Compensate(
            gate.payment_reason or Reason.PAYMENT_DECLINED,
            gate.payment_message or "The payment was declined.",
        )
    if gate.shipment is ShipmentState.REFUSED:
        return Compensate(
            gate.shipment_reason or Reason.SHIPMENT_REFUSED, gate.shipment_message or "The carrier refused."
        )
    for kind, child in children.present():
        if child.is_deleting and not gate.is_leaving:
            message = f"The order's {kind} was deleted before the order was finished."
            return Compensate(deleted(kind), message)
    return None


def advance(gate: Gate, children: Children) -> Step:
    """The first stage that is not done: begin it, or wait for it."""
    if gate.is_leaving:
        # Every stage was done, and its children may be gone.
        return Wait()
    for stage in SAGA:
        if children.get(stage.kind) is None:
            return VerifyMissing(stage.kind) if stage.is_begun(gate) else Create(stage.kind)
        if not stage.is_done(gate):
            return Wait()
    return Wait()


def is_under_way(gate: Gate) -> bool:
    """Whether the order goes forward and has stages left."""
    return gate.state is GateState.OPEN and not all(stage.is_done(gate) for stage in SAGA)


def compensate(gate: Gate, children: Children) -> Step:
    """The label first: goods that travel cannot be taken back. Then payment and stock side by side."""
    if not gate.is_shipment_settled:
        if children.shipment is None:
            return SettleOrphaned((Kind.SHIPMENT,))
        return _delete(((Kind.SHIPMENT, children.shipment),))
    present = children.present()
    if any(not child.is_deleting for _, child in present):
        return _delete(present)
    orphaned = tuple(kind for kind in _unsettled(gate) if children.get(kind) is None)
    if orphaned:
        return SettleOrphaned(orphaned)
    return Wait() if present or not gate.is_compensated else Seal()


def is_unblocked(before: Gate, after: Gate) -> bool:
    """Whether payment and stock waited for the parcel to be settled, and need not any more."""
    return not _is_parcel_settled(before) and _is_parcel_settled(after)


def ask_for_refund(order: Order, refunds: Sequence[RefundRequest]) -> AskForRefund | None:
    """The first refund of the spec that the ledger has not decided on."""
    asked = {request.name for request in refunds}
    return next((AskForRefund(wanted) for wanted in order.spec.refunds if wanted.name not in asked), None)


def retire(order: Order, children: Children) -> Step:
    """The order is over: clean up when it is deleted."""
    if not order.is_deleting:
        return Wait()
    if present := children.present():
        return _delete(present)
    # What is left are finalizers of others: their removal is a watch event, so there is no need to poll.
    return Release() if COMPENSATE_FINALIZER in order.metadata.finalizers else Wait()


def _is_parcel_settled(gate: Gate) -> bool:
    is_settled = gate.state is GateState.COMPENSATING and gate.is_shipment_settled
    return is_settled or gate.state is GateState.SEALED


def _delete(children: tuple[tuple[Kind, Child], ...]) -> Step:
    going = tuple((kind, child) for kind, child in children if not child.is_deleting)
    return Delete(going) if going else Wait()


def _unsettled(gate: Gate) -> tuple[Kind, ...]:
    is_payment_open = gate.payment in (PaymentState.INTENDED, PaymentState.CAPTURED, PaymentState.DECLINED)
    is_stock_kept = gate.reservation in RELEASABLE
    kinds = ((Kind.PAYMENT, is_payment_open), (Kind.RESERVATION, is_stock_kept))
    return tuple(kind for kind, is_open in kinds if is_open)
