"""Which gate an order goes by: the one that it was handed, or the one that it reads."""

from typing import Any

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.order.act import OrderReconciler
from orderplane.crds.meta import Kind
from orderplane.crds.order import Compensation
from orderplane.ledgers.gate import Gate
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


class Api:
    """Makes what is asked for."""

    async def create(self, kind: Kind, _: str, manifest: dict[str, Any]) -> dict[str, Any]:
        return a_child(kind).model_dump(mode="json", by_alias=True)  # type: ignore[no-any-return]


def an_order_with_payment(gates: Gates, enqueued: list[Any]) -> OrderReconciler:
    cluster = Cluster(Api(), lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    cluster.orders.store(an_order().model_dump(mode="json", by_alias=True))
    for kind in (Kind.RESERVATION, Kind.PAYMENT):
        cluster.cache(kind).store(a_child(kind).model_dump(mode="json", by_alias=True))
    return OrderReconciler(
        cluster,
        gates,
        lambda kind, key, hint=None: enqueued.append((kind, hint)),
        lambda: NOW,  # type: ignore[arg-type]
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
