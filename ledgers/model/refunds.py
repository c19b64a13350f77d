"""Refunds after the sale, in memory."""

from collections.abc import Sequence
from dataclasses import replace

from orderplane.events.types import EventType
from orderplane.ledgers.model.tables import Ledger, query, transaction
from orderplane.ledgers.payments import RefundEntry
from orderplane.ledgers.refunds import NewRefund, RefundRequest, decide
from orderplane.ledgers.states import GateState, RefundState


class InMemoryRefundLedger(Ledger):
    """Implements `ledgers.refunds.RefundLedger`."""

    @transaction
    def request(self, merchant: str, order_uid: str, new: NewRefund) -> RefundRequest:
        """Each name asks once. What is admitted is no more than is left, and what is restocked went out. With
        what settles a return, the order is over."""
        tables = self._tables
        gate = tables.gate(order_uid, GateState.SEALED)
        before = self._requests(order_uid)
        known = next((request for request in before if request.name == new.name), None)
        if known is not None:
            return known
        payment = tables.payments.get(order_uid)
        decision = decide(new, gate.outcome, payment, tables.lines.get(order_uid, {}), before)
        refund = None
        if decision.refusal is None:
            assert payment is not None, "else it is not admitted"
            refund = RefundEntry(
                f"refund-{order_uid}-{new.name}", decision.amount, RefundState.REQUESTED, None, 1, None
            )
            tables.payments[order_uid] = replace(payment, refunds=(*payment.refunds, refund))
            tables.append_event(order_uid, EventType.REFUND_REQUESTED, new.name)
            if new.is_restocked:
                tables.restock(decision.lines)
        request = RefundRequest(
            new.name, new.reason, decision.amount, decision.lines, new.is_restocked, decision.refusal,
            decision.message, refund, tables.now(),
        )  # fmt: skip
        tables.requests.setdefault(order_uid, []).append(request)
        tables.end_settled_return(order_uid)
        return request

    @query
    def of_order(self, merchant: str, order_uid: str) -> tuple[RefundRequest, ...]:
        """All that was asked for, with the money as it is now."""
        return self._requests(order_uid)

    @query
    def unsettled(self, limit: int) -> Sequence[tuple[str, str]]:
        """Those whose money the customer does not have yet."""
        gates = self._tables.gates
        return [
            (gates[uid].merchant, f"{gates[uid].name}-{uid[-8:]}")
            for uid in self._tables.requests
            if uid in self._tables.payments and self._tables.payments[uid].unsettled
        ]

    def _requests(self, order_uid: str) -> tuple[RefundRequest, ...]:
        payment = self._tables.payments.get(order_uid)
        return tuple(
            replace(request, refund=payment.refund(request.refund.id))
            if payment is not None and request.refund is not None
            else request
            for request in self._tables.requests.get(order_uid, ())
        )
