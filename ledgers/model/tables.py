"""The ledgers in memory: the executable specification of `ledgers/postgres`.

Each method of the modules beside this one is one transaction with the meaning of the method of the same
name in PostgreSQL, and its docstring is the rule. `tests/ledgers` holds both implementations to the same
answers; the simulation runs the controllers on this one. Left out is what only a database needs: leases,
several merchants, and reservations without an order.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from orderplane.events.types import EventType
from orderplane.ledgers.archive import ArchivedOrder
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import PaymentEntry
from orderplane.ledgers.refunds import RefundRequest, is_return_settled
from orderplane.ledgers.shipments import ShipmentEntry
from orderplane.ledgers.states import (
    GATE_TRANSITIONS,
    GOODS_LEFT,
    LABEL_POSSIBLE,
    OUTCOME_TRANSITIONS,
    RESERVATION_TRANSITIONS,
    GateState,
    Outcome,
    ReservationState,
    TrackingStatus,
    change,
)
from orderplane.ledgers.stock import ReservationEntry

P = ParamSpec("P")
L = TypeVar("L", bound="Ledger")
T = TypeVar("T")


@dataclass
class Tables:
    """All tables; rows of an order are found by its uid, stock by its SKU.

    Args:
        pause: Awaited before each transaction and after each that writes, with the transaction's name: there
            the simulation suspends or kills the caller.
    """

    now: Callable[[], datetime]
    pause: Callable[[str], Awaitable[object]]
    gates: dict[str, Gate] = field(default_factory=dict)
    totals: dict[str, tuple[int, str]] = field(default_factory=dict)
    opening: dict[str, int] = field(default_factory=dict)
    on_hand: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    lines: dict[str, dict[str, int]] = field(default_factory=dict)
    reservations: dict[str, ReservationEntry] = field(default_factory=dict)
    payments: dict[str, PaymentEntry] = field(default_factory=dict)
    requests: dict[str, list[RefundRequest]] = field(default_factory=dict)
    shipments: dict[str, ShipmentEntry] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    buys: dict[str, datetime] = field(default_factory=dict)
    confirms: dict[str, datetime] = field(default_factory=dict)
    polls: set[str] = field(default_factory=set)
    history: dict[str, list[tuple[EventType, datetime]]] = field(default_factory=dict)
    shipped: set[str] = field(default_factory=set)
    effects: set[tuple[str, EventType, str]] = field(default_factory=set)
    archived: dict[str, tuple[ArchivedOrder, Gate]] = field(default_factory=dict)

    def gate(self, uid: str, *states: GateState) -> Gate:
        """Every effect needs the order's gate in a state that admits it."""
        gate = self.gates.get(uid)
        if gate is None or gate.state not in states:
            raise GateClosed(f"order {uid} is {gate.state if gate else 'not opened'}")
        return gate

    def gate_for_refund(self, uid: str) -> Gate:
        """Money goes back while an order is compensated, or after the sale."""
        gate = self.gate(uid, GateState.COMPENSATING, GateState.SEALED)
        if gate.state is GateState.SEALED and gate.outcome not in GOODS_LEFT:
            raise GateClosed(f"order {uid} is {gate.outcome}")
        return gate

    def append_event(self, uid: str, type_: EventType, effect: str = "") -> None:
        """Each effect has one event; `effect` tells several of one type apart."""
        assert (uid, type_, effect) not in self.effects, f"{type_} {effect} of {uid} was appended twice"
        self.effects.add((uid, type_, effect))
        self.history.setdefault(uid, []).append((type_, self.now()))

    def move_stock(self, uid: str, *, on_hand: int, reserved: int) -> None:
        """Stock changes by the lines of an order that is not sealed; on_hand never falls below reserved."""
        assert self.gates[uid].state is not GateState.SEALED, f"stock of sealed {uid} moved"
        for sku, quantity in self.lines[uid].items():
            self.on_hand[sku] += on_hand * quantity
            self.moved[sku] += on_hand * quantity
            self.reserved[sku] += reserved * quantity
            assert 0 <= self.reserved[sku] <= self.on_hand[sku], f"{sku} is oversold"

    def restock(self, lines: Mapping[str, int]) -> None:
        """Pieces that went out are on hand again: of a sold order, whose reservation stays as it is."""
        for sku, quantity in lines.items():
            self.on_hand[sku] += quantity
            self.moved[sku] += quantity

    def set_reservation(self, uid: str, state: ReservationState) -> None:
        """A reservation changes its state."""
        entry = self.reservations[uid]
        self.reservations[uid] = replace(entry, state=change(RESERVATION_TRANSITIONS, entry.state, state))

    def commit_stock(self, uid: str) -> bool:
        """The goods leave, if they are still pinned: a recount may have taken them."""
        if self.reservations[uid].state is not ReservationState.PINNED:
            return False
        self.move_stock(uid, on_hand=-1, reserved=-1)
        self.set_reservation(uid, ReservationState.COMMITTED)
        return True

    def give_back(self, uid: str, state: ReservationState, *, on_hand: int, reserved: int) -> None:
        """Stock that was reserved, or has left, is available again."""
        self.move_stock(uid, on_hand=on_hand, reserved=reserved)
        self.set_reservation(uid, state)
        self.append_event(uid, EventType.INVENTORY_RELEASED)

    def refuse_while_label_possible(self, uid: str) -> None:
        """Neither goods nor money are given back while a parcel may still be on its way."""
        shipment = self.shipments.get(uid)
        if shipment is not None and shipment.state in LABEL_POSSIBLE:
            raise GateClosed(f"order {uid} has a shipment that is {shipment.state}")

    def seal(self, uid: str, outcome: Outcome) -> None:
        """Nothing moves after the seal. An order that is shipped is finished only when it is delivered."""
        gate = self.gates[uid]
        self.gates[uid] = replace(
            gate,
            state=change(GATE_TRANSITIONS, gate.state, GateState.SEALED),
            outcome=change(OUTCOME_TRANSITIONS, gate.outcome, outcome) if gate.outcome else outcome,
            finished_at=None if outcome is Outcome.SHIPPED else self.now(),
        )

    def end_return(self, uid: str) -> None:
        """A parcel came back, and that is settled: the order is finished, and the carrier asked no more."""
        gate = self.gates[uid]
        if gate.outcome is Outcome.SHIPPED and gate.finished_at is None:
            self.gates[uid] = replace(gate, finished_at=self.now())
            self.polls.discard(uid)
            self.append_event(uid, EventType.ORDER_RETURNED)

    def end_settled_return(self, uid: str) -> None:
        """The same, where refunds have settled it."""
        shipment, payment = self.shipments.get(uid), self.payments.get(uid)
        if shipment is None or payment is None:
            return
        requests = self.requests.get(uid, ())
        if is_return_settled(shipment.tracking_status, payment, self.lines.get(uid, {}), requests):
            self.end_return(uid)

    def view(self, uid: str) -> Gate | None:
        """A gate with the state of its three ledgers."""
        gate = self.gates.get(uid)
        if gate is None:
            return None
        reservation, payment = self.reservations.get(uid), self.payments.get(uid)
        shipment = self.shipments.get(uid)
        label = shipment.label if shipment else None
        return replace(
            gate,
            reservation=reservation.state if reservation else None,
            reservation_message=reservation.message if reservation else None,
            payment=payment.state if payment else None,
            payment_reason=payment.reason if payment else None,
            payment_message=payment.message if payment else None,
            shipment=shipment.state if shipment else None,
            shipment_reason=shipment.reason if shipment else None,
            shipment_message=shipment.message if shipment else None,
            tracking_status=shipment.tracking_status if shipment else TrackingStatus.PRE_TRANSIT,
            tracking_code=label.tracking_code if label else None,
            tracking_url=label.tracking_url if label else None,
            carrier=label.carrier if label else None,
            seq=len(self.history.get(uid, ())),
        )


class Ledger:
    """What the four ledgers share: the tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables


def transaction(
    method: Callable[Concatenate[L, P], T],
) -> Callable[Concatenate[L, P], Coroutine[Any, Any, T]]:
    """A method that writes: its caller may be suspended before it, and after its commit."""

    @wraps(method)
    async def run(self: L, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self._tables.pause(f"before {method.__qualname__}")
        result = method(self, *args, **kwargs)
        await self._tables.pause(f"after {method.__qualname__}")
        return result

    return run


def query(method: Callable[Concatenate[L, P], T]) -> Callable[Concatenate[L, P], Coroutine[Any, Any, T]]:
    """A method that only reads: its caller may be suspended before it."""

    @wraps(method)
    async def run(self: L, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self._tables.pause(f"before {method.__qualname__}")
        return method(self, *args, **kwargs)

    return run
