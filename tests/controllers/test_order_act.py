"""Which gate an order goes by: the one that it was handed, or the one that it reads."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.order.act import VANISHED_SECONDS, OrderReconciler
from orderplane.controllers.steps import Wait
from orderplane.crds.api_errors import NotFound
from orderplane.crds.meta import Kind
from orderplane.crds.order import Compensation
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import GateState, PaymentState, ReservationState, ShipmentState

from .builders import NOW, a_child, a_gate, an_order

PAID = a_gate(reservation=ReservationState.PINNED, payment=PaymentState.CAPTURED)


class Gates:
    """The ledger's word on one order."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.reads = 0

    async def read(self, *_: Any) -> Gate:
        self.reads += 1
        return self.gate

    async def open(self, *_: Any) -> Gate:
        return self.gate

    async def compensation(self, *_: Any) -> tuple[Compensation, ...]:
        return ()


class Refunds:
    """Nothing was asked for."""

    async def of_order(self, *_: Any) -> tuple[RefundRequest, ...]:
        return ()


class Stays:
    """The order stays where it is."""

    def plan(self, *_: Any) -> Wait:
        return Wait()


class Api:
    """Makes what is asked for."""

    async def create(self, kind: Kind, _: str, manifest: dict[str, Any]) -> dict[str, Any]:
        return a_child(kind).model_dump(mode="json", by_alias=True)  # type: ignore[no-any-return]


def an_order_with_payment(
    gates: Gates, enqueued: list[Any], elapsed: Callable[[], float] = lambda: 0.0
) -> OrderReconciler:
    cluster = Cluster(Api(), lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    cluster.orders.store(an_order().model_dump(mode="json", by_alias=True))
    for kind in (Kind.RESERVATION, Kind.PAYMENT):
        cluster.cache(kind).store(a_child(kind).model_dump(mode="json", by_alias=True))
    return OrderReconciler(
        cluster,
        gates,
        Refunds(),
        Stays(),
        lambda kind, key, hint=None: enqueued.append((kind, hint)),
        lambda: NOW,  # type: ignore[arg-type]
        leave=lambda _: None,
        elapsed=elapsed,
        charge_limits={},
    )


async def test_an_open_order_goes_by_the_gate_that_it_is_handed_and_hands_it_on() -> None:
    gates, enqueued = Gates(a_gate(reservation=ReservationState.HELD)), []
    order = an_order_with_payment(gates, enqueued)
    await order.reconcile(("shop", "tea"), None)
    await order.reconcile(("shop", "tea"), None, PAID)
    assert gates.reads == 0
    assert enqueued == [(Kind.SHIPMENT, PAID)]


async def test_an_order_that_is_known_to_be_compensated_reads_its_gate() -> None:
    """Else its phase would go back, from Compensating to Paid."""
    gates, enqueued = Gates(a_gate(reservation=ReservationState.HELD)), []
    order = an_order_with_payment(gates, enqueued)
    await order.reconcile(("shop", "tea"), None)
    gates.gate = a_gate(
        GateState.COMPENSATING, reservation=ReservationState.HELD, shipment=ShipmentState.BOUGHT
    )
    await order.reconcile(("shop", "tea"), None)
    await order.reconcile(("shop", "tea"), None, PAID)
    assert gates.reads == 2
    assert enqueued == [(Kind.SHIPMENT, None)] * 2  # to be taken back


async def test_the_gate_of_another_order_of_that_name_is_not_taken() -> None:
    gates, enqueued = Gates(a_gate(reservation=ReservationState.HELD)), []
    order = an_order_with_payment(gates, enqueued)
    await order.reconcile(("shop", "tea"), None)
    await order.reconcile(("shop", "tea"), None, Gate("shop", "another", "tea", GateState.OPEN))
    assert gates.reads == 1


class Orphanage(Api):
    """The API server of an order that vanished; its payment is still there."""

    def __init__(self, payment: Any) -> None:
        self.payment = payment

    async def get(self, kind: Kind, _: str, name: str) -> dict[str, Any]:
        if kind is not Kind.PAYMENT or self.payment is None:
            raise NotFound(404, "NotFound", name)
        return self.payment.model_dump(mode="json", by_alias=True)  # type: ignore[no-any-return]


class VanishedGates(Gates):
    """The gate of an order that vanished: everything is compensated, and it is not sealed yet."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        self.is_sealed = False

    async def unsealed(self, *_: Any) -> list[Gate]:
        return [] if self.is_sealed else [self.gate]

    async def compensate(self, *_: Any, **__: Any) -> Gate:
        return self.gate

    async def seal(self, *_: Any, is_vanished: bool) -> Gate:
        assert is_vanished, "there is nothing to archive"
        self.is_sealed = True
        return self.gate


@pytest.mark.parametrize(
    ("payment", "is_sealed", "again"),
    [
        (None, True, None),
        (a_child(Kind.PAYMENT, deleting=True), False, VANISHED_SECONDS),
        # Only others hold it: their DELETED event, or the resync, brings the order back.
        (a_child(Kind.PAYMENT, deleting=True, finalizers=("example.org/mine",)), False, None),
    ],
    ids=["gone", "ours", "others"],
)
async def test_what_is_left_of_an_order_that_vanished_is_polled_only_while_we_hold_it(
    payment: Any, is_sealed: bool, again: float | None
) -> None:
    gates = VanishedGates(a_gate(GateState.COMPENSATING, reservation=ReservationState.RELEASED))
    cluster = Cluster(Orphanage(payment), lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    order = OrderReconciler(
        cluster,
        gates,
        Refunds(),
        Stays(),
        lambda *_: None,
        lambda: NOW,  # type: ignore[arg-type]
        leave=lambda _: None,
        elapsed=lambda: 0.0,
        charge_limits={},
    )
    assert await order.reconcile(("shop", "tea"), None) == again
    assert gates.is_sealed == is_sealed


async def test_no_child_is_created_on_a_gate_that_was_read_long_ago() -> None:
    """The process stood still between the two: the order may be over by now."""
    gates, enqueued = Gates(a_gate(reservation=ReservationState.HELD)), []
    clock = count(0.0, 60.0)
    order = an_order_with_payment(gates, enqueued, lambda: next(clock))
    await order.reconcile(("shop", "tea"), None)
    with pytest.raises(GateClosed, match="too long ago"):
        await order.reconcile(("shop", "tea"), None, PAID)
    assert enqueued == []
