"""Carry out what a Payment's plan says, at the provider and in the ledger."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

from orderplane.controllers.child import ChildReconciler, Turn
from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.engine.queue import Enqueue, Key
from orderplane.controllers.payment.plan import (
    AwaitDispute,
    AwaitOtherRefund,
    Begin,
    CancelIntent,
    CancelPayment,
    CaptureNothing,
    CheckIntent,
    CheckRefund,
    CheckReturns,
    ConfirmIntent,
    CreateIntent,
    Effect,
    RecordRefund,
    RequestRefund,
    RetryRefunds,
    SendRefund,
    Step,
    plan,
)
from orderplane.controllers.payment.ports import Intent, IntentState, PaymentProvider, Refund, Returns
from orderplane.controllers.payment.status import status_of
from orderplane.controllers.steps import Wait
from orderplane.crds.meta import Kind
from orderplane.crds.payment import Payment, PaymentStatus
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import GateClosed, Refused, Transient
from orderplane.ledgers.gate import Gate, GateLedger
from orderplane.ledgers.payments import (
    PaymentEntry,
    PaymentLedger,
    ProviderRefundState,
    RefundEntry,
    new_withdrawals,
)
from orderplane.ledgers.states import PaymentState, RefundState, ReservationState

PENDING_SECONDS = 1.0
"""How soon the provider is asked again about what it is still working on."""

_PROCESSING = Wait(
    PENDING_SECONDS, Reason.PAYMENT_PROCESSING, "The payment provider has not decided on the payment yet."
)

_Turn = Turn[Payment, PaymentEntry]
T = TypeVar("T")


class PaymentReconciler(ChildReconciler[Payment, PaymentEntry, Effect]):
    """Captures money once, and gives each refund of it back once.

    Args:
        operator: The name of this one, by which it knows what it has begun itself.
        settle: How long a confirm may still take the money after it was begun: longer than its time-out.
    """

    kind = Kind.PAYMENT
    poll_seconds = PENDING_SECONDS

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        ledger: PaymentLedger,
        provider: PaymentProvider,
        enqueue: Enqueue[Gate],
        now: Callable[[], datetime],
        *,
        operator: str,
        settle: timedelta,
    ) -> None:
        super().__init__(cluster, cluster.payments, gates, ledger, enqueue, now)
        self._operator = operator
        self._settle = settle
        self._ledger = ledger
        self._provider = provider
        self._returns: dict[Key, Returns] = {}

    async def reconcile(
        self, key: Key, failure: FailureState | None, hint: Gate | None = None
    ) -> float | None:
        try:
            return await super().reconcile(key, failure, hint)
        finally:
            # The provider's answer is as old as this reconcile: the next one asks again.
            self._returns.pop(key, None)

    def _is_begun(self, gate: Gate | None) -> bool:
        return gate is not None and gate.payment is not None

    def _plan(self, turn: _Turn) -> Step:
        return plan(
            turn.child,
            turn.gate,
            turn.entry,
            operator=self._operator,
            settle=self._settle,
            tries=turn.failure.tries if turn.failure else 0,
            is_unconfirmed=turn.is_untouched,
            is_retry_requested=self._is_refund_failed(turn) and self._is_retry_requested(turn.key),
            returns=self._returns.get(turn.key),
        )

    async def _carry_out(self, step: Effect, turn: _Turn) -> Wait | None:
        merchant, uid = turn.merchant, turn.uid
        match step:
            case Begin(payment):
                turn.entry = await self._begin(payment)
            case CaptureNothing():
                turn.entry = await self._ledger.capture(merchant, uid, 0)
            case CreateIntent():
                turn.entry = await self._create(merchant, step)
                return self._wait_for_answer(turn)
            case ConfirmIntent(intent_id, attempt):
                turn.entry = await self._confirm(merchant, uid, intent_id, attempt)
                return self._wait_for_answer(turn)
            case CheckIntent(intent_id):
                intent = await _known(self._provider.get_intent(intent_id))
                turn.entry = await self._record_intent(merchant, uid, intent) or turn.entry
                turn.is_untouched = intent.state is IntentState.UNCONFIRMED
                return _PROCESSING if intent.state is IntentState.PROCESSING else None
            case CancelPayment():
                turn.entry = await self._ledger.cancel(merchant, uid, intent_id=None)
            case CancelIntent(intent_id):
                turn.entry = await self._cancel_intent(merchant, uid, intent_id)
            case RequestRefund():
                turn.entry = await self._ledger.request_refund(merchant, uid)
            case CheckReturns(intent_id):
                await self._check_returns(turn, intent_id)
            case AwaitDispute(dispute):
                raise Transient(
                    Reason.PAYMENT_DISPUTED,
                    f"the customer disputes the payment ({dispute.id}); what is left of it is refunded after "
                    "the bank's decision. Answer the dispute at the payment provider.",
                    is_final=True,
                )
            case AwaitOtherRefund(found):
                raise _pending(found)
            case RecordRefund(refund, found):
                turn.entry = await self._record_refund(merchant, uid, refund, found)
            case SendRefund():
                turn.entry = await self._send_refund(turn, step)
            case CheckRefund(refund):
                found = await _known(self._provider.get_refund(refund.provider_id or ""))
                turn.entry = await self._record_refund(merchant, uid, refund, found)
                if found.state is ProviderRefundState.PENDING:
                    raise _pending(found)
            case RetryRefunds(refunds):
                self._handle_retry(turn.key)
                for refund in refunds:
                    turn.entry = await self._ledger.next_refund_attempt(
                        merchant, uid, refund.id, refund.attempt
                    )
        return None

    async def _begin(self, payment: Payment) -> PaymentEntry:
        self._check_planned(payment)
        return await self._ledger.intend(
            payment.metadata.namespace,
            payment.spec.order_ref.uid,
            name=payment.metadata.name,
            amount=payment.spec.amount,
            currency=payment.spec.currency,
            method=payment.spec.method,
        )

    async def _create(self, merchant: str, step: CreateIntent) -> PaymentEntry:
        entry, uid = step.entry, step.entry.order_uid
        if step.is_key_spent:
            entry = await self._ledger.next_create_attempt(merchant, uid, entry.create_attempt)
        try:
            intent = await self._provider.create_intent(
                key=f"{uid}/create/{entry.create_attempt}",
                amount=entry.amount,
                currency=entry.currency,
                method=entry.method,
                merchant=merchant,
                reference=uid,
            )
        except Refused as no:
            return await self._ledger.decline(merchant, uid, no.reason, no.message)
        try:
            return await self._confirm(merchant, uid, intent.id, step.confirm_attempt)
        except GateClosed:
            return await self._ledger.record_intent(merchant, uid, intent.id)

    async def _confirm(self, merchant: str, uid: str, intent_id: str, attempt: int) -> PaymentEntry:
        """Write down that it is about to be sent, then send it; an unclear answer is checked later."""
        entry = await self._ledger.begin_confirm(merchant, uid, intent_id, attempt, operator=self._operator)
        if entry.intent_id != intent_id or entry.confirm_attempt != attempt:
            return entry
        try:
            intent = await self._provider.confirm(intent_id, key=f"{uid}/confirm/{attempt}")
        except Refused as no:
            intent = await _known(self._provider.get_intent(intent_id))
            if intent.state is IntentState.UNCONFIRMED:
                return await self._ledger.decline(merchant, uid, no.reason, no.message)
        return await self._record_intent(merchant, uid, intent) or entry

    def _wait_for_answer(self, turn: _Turn) -> Wait | None:
        turn.is_untouched = False
        is_open = turn.entry is not None and turn.entry.state is PaymentState.INTENDED
        return _PROCESSING if is_open else None

    async def _record_intent(self, merchant: str, uid: str, intent: Intent) -> PaymentEntry | None:
        """Record what the provider says; None where that is nothing final."""
        match intent.state:
            case IntentState.CAPTURED:
                return await self._ledger.capture(merchant, uid, intent.received)
            case IntentState.REFUSED:
                reason = intent.reason or Reason.PAYMENT_DECLINED
                message = intent.message or "The payment was declined."
                return await self._ledger.decline(merchant, uid, reason, message)
            case IntentState.CANCELLED:
                message = "The payment was cancelled at the provider."
                return await self._ledger.decline(merchant, uid, Reason.PAYMENT_CANCELLED, message)
            case IntentState.UNCONFIRMED | IntentState.PROCESSING:
                return None

    async def _cancel_intent(self, merchant: str, uid: str, intent_id: str) -> PaymentEntry:
        intent = await _known(self._provider.cancel_intent(intent_id))
        match intent.state:
            case IntentState.CANCELLED:
                return await self._ledger.cancel(merchant, uid, intent_id=intent_id)
            case IntentState.CAPTURED:
                return await self._ledger.capture(merchant, uid, intent.received)
            case state:
                raise Transient(
                    Reason.PAYMENT_PROCESSING, f"the payment is {state}; its cancellation waits for that"
                )

    async def _check_returns(self, turn: _Turn, intent_id: str) -> None:
        assert turn.entry is not None, "only what was captured has returns"
        returns = await _known(self._provider.returns(intent_id))
        self._returns[turn.key] = returns
        # Afterwards: another operator may have made one of ours since, and it would look like another's.
        turn.entry = await self._ledger.read(turn.merchant, turn.uid)
        assert turn.entry is not None, "an entry does not go"
        withdrawn = returns.withdrawals({refund.id for refund in turn.entry.refunds})
        if new_withdrawals(turn.entry, withdrawn):
            turn.entry = await self._ledger.record_withdrawals(turn.merchant, turn.uid, withdrawn)

    async def _send_refund(self, turn: _Turn, step: SendRefund) -> PaymentEntry:
        assert turn.entry is not None, "a refund is an entry's"
        merchant, uid, refund = turn.merchant, turn.uid, step.refund
        if step.is_key_spent:
            entry = await self._ledger.next_refund_attempt(merchant, uid, refund.id, refund.attempt)
            refund = entry.refund(refund.id)
        try:
            found = await self._provider.refund(
                step.intent_id,
                key=f"{refund.id}/{refund.attempt}",
                amount=refund.amount,
                currency=turn.entry.currency,
                reference=refund.id,
            )
        except Refused as no:
            return await self._explain_refusal(turn, step.intent_id, refund, no)
        # What was read before it is no reason to send another one.
        self._returns.pop(turn.key, None)
        return await self._record_refund(merchant, uid, refund, found)

    async def _explain_refusal(
        self, turn: _Turn, intent_id: str, refund: RefundEntry, no: Refused
    ) -> PaymentEntry:
        """What has left the payment since we looked is planned anew, under another key, because this one
        replays the refusal. Where nothing has, the refund failed."""
        assert turn.entry is not None, "a refund is an entry's"
        before = self._returns.get(turn.key)
        await self._check_returns(turn, intent_id)
        if self._returns[turn.key] != before:
            return await self._ledger.next_refund_attempt(turn.merchant, turn.uid, refund.id, refund.attempt)
        return await self._ledger.record_refund(
            turn.merchant,
            turn.uid,
            refund.id,
            attempt=refund.attempt,
            provider_id=None,
            state=ProviderRefundState.FAILED,
            reason=no.message,
        )

    async def _record_refund(
        self, merchant: str, uid: str, refund: RefundEntry, found: Refund
    ) -> PaymentEntry:
        return await self._ledger.record_refund(
            merchant,
            uid,
            refund.id,
            attempt=refund.attempt,
            provider_id=found.id,
            state=found.state,
            reason=found.reason,
        )

    def _is_refund_failed(self, turn: _Turn) -> bool:
        refunds = turn.entry.refunds if turn.entry else ()
        return any(refund.state is RefundState.FAILED for refund in refunds)

    def _is_news(self, turn: _Turn, before: PaymentEntry | None) -> bool:
        # After failures the order's condition may still show why the payment waited.
        return turn.entry != before or (turn.gate is not None and turn.failure is not None)

    def _gate_after(self, turn: _Turn) -> Gate | None:
        is_paid = turn.entry is not None and turn.entry.state is PaymentState.CAPTURED
        if turn.gate is None or not is_paid:
            return None
        return turn.gate.advanced(ReservationState.PINNED, PaymentState.CAPTURED)

    def _status_of(self, child: Payment, entry: PaymentEntry | None, delay: Delay | None) -> PaymentStatus:
        return status_of(child, entry, delay, self._now())


def _pending(refund: Refund) -> Transient:
    """A refund may be pending for days, so it is asked for as after failures: more and more rarely."""
    return Transient(Reason.REFUND_PENDING, f"the payment provider has not settled refund {refund.id} yet")


async def _known(reading: Awaitable[T]) -> T:
    """What the provider says of an object that it gave us the id of.

    Raises:
        Transient: it does not know the object: our key is of another account.
    """
    try:
        return await reading
    except Refused as no:
        message = f"{no.message} Check that the key of the payment provider is of the same account."
        raise Transient(Reason.PAYMENT_UNKNOWN, message, is_final=True) from no
