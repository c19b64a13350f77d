"""The payment ledger in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, NothingToSettle, Refused, Transient
from orderplane.ledgers.model.tables import Ledger, query, transaction
from orderplane.ledgers.payments import (
    PaymentEntry,
    ProviderRefundState,
    RefundEntry,
    Withdrawal,
    amounts_after,
    new_withdrawals,
    why_not_settled,
)
from orderplane.ledgers.states import (
    NOT_MADE,
    PAID_BACK,
    PAYMENT_TRANSITIONS,
    REFUND_TRANSITIONS,
    RESERVING,
    UNSETTLED,
    GateState,
    PaymentState,
    RefundState,
    ReservationState,
    change,
)


class InMemoryPaymentLedger(Ledger):
    """Implements `ledgers.payments.PaymentLedger`."""

    @query
    def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry of that name."""
        return self._tables.names.get(name)

    @query
    def read(self, merchant: str, order_uid: str) -> PaymentEntry | None:
        """The entry, with the age of its confirm by the clock of the ledgers."""
        entry, begun = self._tables.payments.get(order_uid), self._tables.confirms.get(order_uid)
        return replace(entry, confirm_age=self._tables.now() - begun) if entry and begun else entry

    @transaction
    def intend(
        self, merchant: str, order_uid: str, *, name: str, amount: int, currency: str, method: str
    ) -> PaymentEntry:
        """A payment is begun for exactly the order's total, while its stock is held; then the stock is
        pinned."""
        tables = self._tables
        tables.gate(order_uid, GateState.OPEN)
        if (amount, currency) != tables.totals[order_uid]:
            raise Refused(Reason.AMOUNT_MISMATCH, "another amount than the order's total")
        reservation = tables.reservations.get(order_uid)
        if reservation is None or reservation.state not in RESERVING:
            raise Transient(Reason.STOCK_NOT_HELD, "no stock is held")
        tables.set_reservation(order_uid, ReservationState.PINNED)
        if order_uid not in tables.payments:
            tables.names[name] = order_uid
            self._save(
                PaymentEntry(
                    order_uid, amount, currency, method, PaymentState.INTENDED, None, 1, 0, 0, None, None
                )
            )
        return tables.payments[order_uid]

    @transaction
    def next_create_attempt(self, merchant: str, order_uid: str, attempt: int) -> PaymentEntry:
        """Another create key is used only while no intent is known, and each key is given up once."""
        entry = self._entry(order_uid, GateState.OPEN)
        if entry.create_attempt == attempt and entry.intent_id is None:
            entry = self._save(replace(entry, create_attempt=attempt + 1))
        return entry

    @transaction
    def begin_confirm(
        self, merchant: str, order_uid: str, intent_id: str, attempt: int, *, operator: str
    ) -> PaymentEntry:
        """A confirm is written down before it is sent, for one intent, each attempt once."""
        entry = self._entry(order_uid, GateState.OPEN)
        is_same = entry.intent_id in (None, intent_id)
        if entry.state is not PaymentState.INTENDED or not is_same or entry.confirm_attempt >= attempt:
            raise GateClosed(f"confirm {attempt} of order {order_uid} is not admitted any more")
        self._tables.confirms[order_uid] = self._tables.now()
        return self._save(
            replace(
                entry, intent_id=intent_id, confirm_attempt=attempt, confirm_begun_by=operator,
                confirm_age=timedelta(),
            )
        )  # fmt: skip

    @transaction
    def record_intent(self, merchant: str, order_uid: str, intent_id: str) -> PaymentEntry:
        """An intent that was created is known, so that it can be cancelled."""
        entry = self._entry(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if entry.state is PaymentState.INTENDED and entry.intent_id is None:
            entry = self._save(replace(entry, intent_id=intent_id))
        return entry

    @transaction
    def capture(self, merchant: str, order_uid: str, received: int) -> PaymentEntry:
        """Money that was taken is recorded, also while compensating and after a decline."""
        entry = self._entry(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if entry.state in (PaymentState.INTENDED, PaymentState.DECLINED):
            entry = self._set(replace(entry, captured=received), PaymentState.CAPTURED)
            self._tables.append_event(order_uid, EventType.PAYMENT_SUCCESS)
        return entry

    @transaction
    def decline(self, merchant: str, order_uid: str, reason: str, message: str) -> PaymentEntry:
        """A payment is declined once, and never after money was taken."""
        entry = self._entry(order_uid, GateState.OPEN, GateState.COMPENSATING)
        if entry.state is PaymentState.INTENDED:
            entry = self._set(replace(entry, reason=reason, message=message), PaymentState.DECLINED)
            self._tables.append_event(order_uid, EventType.PAYMENT_FAILED)
        return entry

    @transaction
    def cancel(self, merchant: str, order_uid: str, *, intent_id: str | None) -> PaymentEntry:
        """Only a payment that took no money can be cancelled, and only with the intent that it has now."""
        entry = self._entry(order_uid, GateState.COMPENSATING)
        is_open = entry.state in (PaymentState.INTENDED, PaymentState.DECLINED)
        if is_open and entry.intent_id == intent_id:
            entry = self._set(entry, PaymentState.CANCELLED)
            self._tables.append_event(order_uid, EventType.PAYMENT_CANCELLED)
        return entry

    @transaction
    def request_refund(self, merchant: str, order_uid: str) -> PaymentEntry:
        """A refund gives back all that was captured, once, and not while a label may be valid."""
        entry = self._entry(order_uid, GateState.COMPENSATING)
        self._tables.refuse_while_label_possible(order_uid)
        if entry.state is PaymentState.CAPTURED and entry.captured == 0:
            return self._set(entry, PaymentState.REFUNDED)
        if entry.state is PaymentState.CAPTURED and not entry.refunds:
            refund = RefundEntry(f"refund-{order_uid}", entry.captured, RefundState.REQUESTED, None, 1, None)
            entry = self._save(replace(entry, refunds=(refund,)))
        return entry

    @transaction
    def record_withdrawals(self, merchant: str, order_uid: str, found: Sequence[Withdrawal]) -> PaymentEntry:
        """What is withdrawn is recorded once, while the provider has none of one of our refunds. They are for
        what is left, and not needed where that is nothing."""
        entry = self._refundable(order_uid)
        new = new_withdrawals(entry, found) if entry.not_made else ()
        if not new:
            return entry
        amounts = amounts_after(entry, new)
        for withdrawal in new:
            self._tables.append_event(order_uid, EventType.PAYMENT_WITHDRAWN, withdrawal.provider_id)
        entry = self._save(replace(entry, withdrawals=(*entry.withdrawals, *new)))
        for refund_id, amount in amounts.items():
            refund = entry.refund(refund_id)
            if amount == 0:
                entry = self._set_refund(entry, refund, RefundState.NOT_NEEDED)
            elif amount != refund.amount:
                refund = replace(refund, amount=amount, attempt=refund.attempt + 1)
                entry = self._set_refund(entry, refund, refund.state)
        return self._set(entry, PaymentState.REFUNDED) if entry.is_back else entry

    @transaction
    def record_refund(
        self,
        merchant: str,
        order_uid: str,
        refund_id: str,
        *,
        attempt: int,
        provider_id: str | None,
        state: ProviderRefundState,
        reason: str | None,
    ) -> PaymentEntry:
        """What the provider says of a refund holds until its money is back, or until it is tried again."""
        entry = self._refundable(order_uid)
        refund = entry.refund(refund_id)
        is_old = state is ProviderRefundState.FAILED and attempt != refund.attempt
        if refund.state in UNSETTLED and not is_old:
            refund = replace(refund, provider_id=provider_id, reason=reason)
            entry = self._set_refund(entry, refund, RefundState(state.value))
        return entry

    @transaction
    def next_refund_attempt(
        self, merchant: str, order_uid: str, refund_id: str, attempt: int
    ) -> PaymentEntry:
        """A refund that failed, or that the provider does not have, is requested under another key; each
        attempt is given up once."""
        entry = self._refundable(order_uid)
        refund = entry.refund(refund_id)
        if refund.state in NOT_MADE and refund.attempt == attempt:
            refund = replace(refund, attempt=attempt + 1, provider_id=None)
            entry = self._set_refund(entry, refund, RefundState.REQUESTED)
        return entry

    def settle_refund_by_hand(self, order_uid: str, reason: str = "paid back") -> PaymentEntry:
        """A person pays back what the provider has failed to; of several refunds, the first that failed."""
        gate, entry = self._tables.gates.get(order_uid), self._tables.payments.get(order_uid)
        refunds = entry.refunds if entry else ()
        failed = [refund for refund in refunds if refund.state is RefundState.FAILED]
        refund = next(iter((*failed, *reversed(refunds))), None)
        why_not = why_not_settled(
            gate.state if gate else None, entry.state if entry else None, refund.state if refund else None
        )
        if entry is None or refund is None or why_not is not None:
            raise NothingToSettle(f"order {order_uid}: {why_not}")
        return self._set_refund(entry, replace(refund, reason=reason), RefundState.SETTLED_BY_HAND)

    def _entry(self, order_uid: str, *states: GateState) -> PaymentEntry:
        self._tables.gate(order_uid, *states)
        if order_uid not in self._tables.payments:
            raise GateClosed(f"order {order_uid} has no payment")
        return self._tables.payments[order_uid]

    def _refundable(self, order_uid: str) -> PaymentEntry:
        return self._entry(order_uid, self._tables.gate_for_refund(order_uid).state)

    def _save(self, entry: PaymentEntry) -> PaymentEntry:
        self._tables.payments[entry.order_uid] = entry
        return entry

    def _set(self, entry: PaymentEntry, state: PaymentState) -> PaymentEntry:
        return self._save(replace(entry, state=change(PAYMENT_TRANSITIONS, entry.state, state)))

    def _set_refund(self, entry: PaymentEntry, refund: RefundEntry, state: RefundState) -> PaymentEntry:
        refund = replace(refund, state=change(REFUND_TRANSITIONS, refund.state, state))
        refunds = tuple(refund if other.id == refund.id else other for other in entry.refunds)
        entry = self._save(replace(entry, refunds=refunds))
        if state in PAID_BACK:
            if entry.is_back:
                entry = self._set(entry, PaymentState.REFUNDED)
            self._tables.append_event(entry.order_uid, EventType.PAYMENT_REFUNDED, refund.id)
        return entry
