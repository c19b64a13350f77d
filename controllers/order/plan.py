"""What an Order needs next.

Pure: the same order, gate, children and time always give the same plan. It reads what is, never which
event arrived, and asks for at most one step; the next look brings the next step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from orderplane.controllers.order.children import Children
from orderplane.crds.meta import Kind, Resource
from orderplane.crds.order import Order
from orderplane.ledgers.gate import Gate, GateState, Outcome, PaymentState, ReservationState, ShipmentState


@dataclass(frozen=True, slots=True)
class Undo:
    """Why an order is to be undone."""

    reason: str
    message: str
    is_cancel: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step; an empty plan waits for the world to change.

    Args:
        open_gate: Make the order's row, before anything else.
        undo: Decide that it is undone; the deletes come in a later round, once that is committed.
        verify_missing: This child's ledger has begun but the child is not in the cache: see if it is gone.
        create: Make this child.
        delete: Ask these children to go.
        settle_orphaned: These ledgers hold something, but their children are gone: have them settled.
        seal: Everything is undone; see that no child is left, and end the order.
        release: See that no child is left, and let the order go.
        delete_order: Its time after the end is over.
        again_at: When to look again although nothing happened.
    """

    open_gate: bool = False
    undo: Undo | None = None
    verify_missing: Kind | None = None
    create: Kind | None = None
    delete: tuple[tuple[Kind, Resource], ...] = ()
    settle_orphaned: tuple[Kind, ...] = ()
    seal: bool = False
    release: bool = False
    delete_order: bool = False
    again_at: datetime | None = None

    @property
    def is_decision(self) -> bool:
        """Whether it changes the gate, after which everything is to be planned anew."""
        return self.open_gate or self.undo is not None or self.seal


@dataclass(frozen=True, slots=True)
class Step:
    """One step forward: the child that stands for it, whether it was begun, whether it is done."""

    kind: Kind
    is_begun: Callable[[Gate], bool]
    is_done: Callable[[Gate], bool]


SAGA = (
    Step(
        Kind.RESERVATION,
        lambda gate: gate.reservation is not None,
        lambda gate: (
            gate.reservation in (ReservationState.HELD, ReservationState.PINNED, ReservationState.COMMITTED)
        ),
    ),
    Step(
        Kind.PAYMENT,
        lambda gate: gate.payment is not None,
        lambda gate: gate.payment is PaymentState.CAPTURED,
    ),
    Step(
        Kind.SHIPMENT,
        lambda gate: gate.shipment is not None,
        lambda gate: gate.shipment is ShipmentState.BOUGHT,
    ),
)


def plan(order: Order, gate: Gate | None, children: Children, now: datetime) -> Plan:
    """Decide the next step of one order."""
    if gate is None:
        return Plan(open_gate=True)
    if gate.state is GateState.SEALED:
        return retire(order, gate, children, now)
    if gate.state is GateState.COMPENSATING:
        return undo(gate, children)
    if why := why_undo(order, gate, children):
        return Plan(undo=why)
    return advance(gate, children)


def why_undo(order: Order, gate: Gate, children: Children) -> Undo | None:
    """The reason why an open order cannot, or shall not, go on."""
    if order.is_deleting:
        return Undo("Deleted", "The order was deleted before it was handed to the carrier.", is_cancel=True)
    if order.spec.cancel:
        return Undo("CancelRequested", "The customer cancelled the order.", is_cancel=True)
    if gate.reservation is ReservationState.REJECTED:
        return Undo("OutOfStock", gate.reservation_message or "There is not enough stock.")
    if gate.reservation is ReservationState.EXPIRED:
        return Undo("ReservationExpired", "The stock was kept until its time was over.")
    if gate.reservation is ReservationState.LOST:
        return Undo("StockLost", "A recount found less stock than was promised.")
    if gate.payment is PaymentState.DECLINED:
        return Undo(
            gate.payment_reason or "PaymentDeclined", gate.payment_message or "The payment was declined."
        )
    if gate.shipment is ShipmentState.REFUSED:
        return Undo(
            gate.shipment_reason or "ShipmentRefused", gate.shipment_message or "The carrier refused."
        )
    for kind, child in children.present():
        if child.is_deleting:
            return Undo(f"{kind}Deleted", f"The order's {kind} was deleted before the order was finished.")
    return None


def advance(gate: Gate, children: Children) -> Plan:
    """The first step that is not done: begin it, or wait for it."""
    for step in SAGA:
        if children.get(step.kind) is None:
            return Plan(verify_missing=step.kind) if step.is_begun(gate) else Plan(create=step.kind)
        if not step.is_done(gate):
            return Plan()
    return Plan()


def undo(gate: Gate, children: Children) -> Plan:
    """The label first, because goods that travel cannot be undone; then money and stock side by side."""
    if not gate.is_shipment_settled:
        if children.shipment is None:
            return Plan(settle_orphaned=(Kind.SHIPMENT,))
        return _delete(((Kind.SHIPMENT, children.shipment),))
    present = children.present()
    if any(not child.is_deleting for _, child in present):
        return _delete(present)
    orphaned = tuple(kind for kind in _unsettled(gate) if children.get(kind) is None)
    if orphaned:
        return Plan(settle_orphaned=orphaned)
    return Plan() if present or not gate.is_compensated else Plan(seal=True)


def retire(order: Order, gate: Gate, children: Children, now: datetime) -> Plan:
    """The order is over: clean up when asked to, or when its time is over."""
    if order.is_deleting:
        present = children.present()
        return _delete(present) if present else Plan(release=True)
    ttl = order.spec.ttl_seconds_after_finished
    if ttl is None or gate.finished_at is None or gate.outcome is Outcome.SHIPPED:
        return Plan()
    due = gate.finished_at + timedelta(seconds=ttl)
    return Plan(delete_order=True) if now >= due else Plan(again_at=due)


def _delete(children: tuple[tuple[Kind, Resource], ...]) -> Plan:
    return Plan(delete=tuple((kind, child) for kind, child in children if not child.is_deleting))


def _unsettled(gate: Gate) -> tuple[Kind, ...]:
    money = gate.payment in (PaymentState.INTENDED, PaymentState.CAPTURED, PaymentState.DECLINED)
    stock = gate.reservation in (ReservationState.HELD, ReservationState.PINNED, ReservationState.COMMITTED)
    kinds = ((Kind.PAYMENT, money), (Kind.RESERVATION, stock))
    return tuple(kind for kind, is_open in kinds if is_open)
