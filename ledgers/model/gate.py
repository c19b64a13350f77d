"""The order gate in memory."""

from dataclasses import replace

from orderplane.crds.order import Compensation, CompensationStep, Order
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.tables import Ledger, query, transaction
from orderplane.ledgers.states import GATE_TRANSITIONS, GOODS_LEFT, GateState, Outcome, change

_COMPENSATION_STEPS = {
    EventType.INVENTORY_RELEASED: CompensationStep.RELEASE_STOCK,
    EventType.PAYMENT_CANCELLED: CompensationStep.CANCEL_PAYMENT,
    EventType.PAYMENT_REFUNDED: CompensationStep.REFUND_PAYMENT,
    EventType.SHIPMENT_CANCELLED: CompensationStep.CANCEL_SHIPMENT,
}


class InMemoryGateLedger(Ledger):
    """Implements `ledgers.gate.GateLedger`."""

    @query
    def read(self, merchant: str, uid: str) -> Gate | None:
        """The row with its three ledgers."""
        return self._tables.view(uid)

    @transaction
    def open(self, order: Order) -> Gate:
        """An order is opened once, with its total."""
        tables, uid = self._tables, order.metadata.uid
        if uid not in tables.gates:
            tables.gates[uid] = Gate(order.metadata.namespace, uid, order.metadata.name, GateState.OPEN)
            tables.totals[uid] = (order.spec.quote.amounts.total, order.spec.quote.currency)
            tables.append_event(uid, EventType.ORDER_CREATED)
        return self._view(uid)

    @transaction
    def compensate(
        self,
        merchant: str,
        uid: str,
        *,
        reason: str,
        message: str,
        is_cancel: bool,
        actor: str | None = None,
    ) -> Gate:
        """Only an open order begins to be compensated; the first reason stays. Of an order that is leaving,
        what is missing was deleted by us."""
        gate = self._tables.gates.get(uid)
        if gate is not None and gate.state is GateState.OPEN and (is_cancel or not gate.is_leaving):
            self._tables.gates[uid] = replace(
                gate,
                state=change(GATE_TRANSITIONS, gate.state, GateState.COMPENSATING),
                reason=reason,
                message=message,
                is_cancel=is_cancel,
            )
        return self._view(uid)

    @transaction
    def record_retry(self, merchant: str, uid: str, *, request: str, actor: str | None) -> None:
        """Each request is recorded once, while there is something to try."""
        is_known = (uid, EventType.ORDER_RETRIED, request) in self._tables.effects
        if self._view(uid).state is not GateState.SEALED and not is_known:
            self._tables.append_event(uid, EventType.ORDER_RETRIED, request)

    @transaction
    def seal(self, merchant: str, uid: str, *, is_vanished: bool = False) -> Gate:
        """An order that is compensated ends once nothing of it is held, charged or labelled."""
        view = self._view(uid)
        if view.state is GateState.COMPENSATING and view.is_compensated:
            self._tables.seal(uid, Outcome.CANCELLED if view.is_cancel else Outcome.FAILED)
            self._tables.append_event(
                uid, EventType.ORDER_CANCELLED if view.is_cancel else EventType.ORDER_FAILED
            )
        return self._view(uid)

    @query
    def unsealed(self, merchant: str, name: str) -> tuple[Gate, ...]:
        """The unsealed rows of that name."""
        return tuple(gate for gate in self._unsealed() if gate.name == name)

    @query
    def unsealed_page(self, after: tuple[str, str] | None, limit: int) -> tuple[Gate, ...]:
        """All unsealed rows but for open ones that have left; here a page has room for them."""
        return tuple(
            gate for gate in self._unsealed() if gate.state is not GateState.OPEN or not gate.is_leaving
        )

    @query
    def compensation(self, merchant: str, uid: str) -> tuple[Compensation, ...]:
        """The compensation that was done so far, from the history. A refund after the sale is none."""
        is_sold = self._view(uid).outcome in GOODS_LEFT
        return tuple(
            Compensation(step=_COMPENSATION_STEPS[type_], reference=uid, at=at)
            for type_, at in self._tables.history[uid]
            if type_ in _COMPENSATION_STEPS and not (is_sold and type_ is EventType.PAYMENT_REFUNDED)
        )

    def _view(self, uid: str) -> Gate:
        view = self._tables.view(uid)
        if view is None:
            raise GateClosed(f"order {uid} was never opened")
        return view

    def _unsealed(self) -> tuple[Gate, ...]:
        return tuple(
            self._view(uid) for uid, gate in self._tables.gates.items() if gate.state is not GateState.SEALED
        )
