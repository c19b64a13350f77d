"""Bring the provider to what a Payment, and the gate of its order, ask for."""

from collections.abc import Callable
from datetime import datetime

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key, Wake
from orderplane.controllers.family import ParentOrder
from orderplane.controllers.payment.plan import Action, plan, status_of
from orderplane.controllers.payment.ports import Intent, IntentState, PaymentProvider, Refund
from orderplane.crds.meta import REFUND_PAYMENT_FINALIZER, Kind
from orderplane.crds.payment import Payment
from orderplane.crds.reasons import Reason
from orderplane.ledgers.errors import GateClosed, Refused, Transient, Unclear
from orderplane.ledgers.gate import Gate, GateLedger, PaymentState, ReservationState
from orderplane.ledgers.payments import PaymentEntry, PaymentLedger

PENDING_SECONDS = 1.0
"""How soon the provider is asked again about what it is still working on."""

SAME_KEY_TRIES = 2
"""After so many failures a stored error may be what the idempotency key replays: another key is used."""

_MOST_STEPS = 8


class PaymentReconciler:
    """Takes money once, and gives it back once."""

    kind = Kind.PAYMENT

    def __init__(
        self,
        cluster: Cluster,
        gates: GateLedger,
        ledger: PaymentLedger,
        provider: PaymentProvider,
        wake: Wake,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._provider = provider
        self._clock = clock
        self._family = ParentOrder(Kind.PAYMENT, REFUND_PAYMENT_FINALIZER, cluster, gates, wake)
        self._entries: dict[Key, PaymentEntry | None] = {}
        self._refund_retries: dict[Key, str | None] = {}

    async def reconcile(
        self, key: Key, trouble: FailureState | None, seen: Gate | None = None
    ) -> float | None:
        payment = self._cluster.payments.get(key)
        uid = payment.spec.order_ref.uid if payment else await self._ledger.uid_of(*key)
        if uid is None:
            self._forget(key)
            return None
        gate = await self._family.gate(key, uid, seen)
        entry = await self._ledger.read(key[0], uid) if gate is not None and gate.payment else None
        before = entry
        is_unconfirmed = False
        for _ in range(_MOST_STEPS):
            action = plan(payment, gate, entry, is_unconfirmed=is_unconfirmed)
            match action:
                case Action.WAIT:
                    break
                case Action.LET_GO:
                    assert payment is not None
                    await self._family.let_go(payment)
                    break
                case Action.CLOSE_GATE:
                    await self._family.close_gate(key, uid)
                    gate = await self._family.gate(key, uid)
                case Action.CHECK:
                    assert entry is not None
                    intent = await self._provider.get_intent(entry.intent_id or "")
                    entry = await self._settle(key[0], entry, intent)
                    is_unconfirmed = intent.state is IntentState.UNCONFIRMED
                    if intent.state is IntentState.PROCESSING:
                        break
                case Action.INTEND | Action.CREATE | Action.CONFIRM | Action.CAPTURE_NOTHING:
                    assert payment is not None
                    entry = await self._charge(action, payment, entry, trouble)
                    is_unconfirmed = False
                    if action in (Action.CREATE, Action.CONFIRM) and entry.state is PaymentState.INTENDED:
                        break
                case _:
                    assert entry is not None
                    undone = await self._undo(action, key, entry, trouble)
                    if undone == entry:
                        break
                    entry = undone
            self._entries[key] = entry
        self._entries[key] = entry
        if entry != before or (gate and trouble):
            is_paid = entry is not None and entry.state is PaymentState.CAPTURED
            after = (
                gate.advanced(ReservationState.PINNED, PaymentState.CAPTURED) if gate and is_paid else None
            )
            self._family.wake_order(key, payment, gate, after)
        return PENDING_SECONDS if self._is_pending(payment, gate, entry) else None

    async def report(self, key: Key, trouble: FailureState | None) -> None:
        payment = self._cluster.payments.get(key)
        if payment is None or key not in self._entries:
            return
        status = status_of(payment, self._entries[key], trouble, self._clock())
        if status != payment.status:
            await self._cluster.report(Kind.PAYMENT, payment, status)

    async def refresh(self, key: Key) -> None:
        await self._cluster.refresh(Kind.PAYMENT, key)

    def rank(self, key: Key) -> int:
        return self._family.rank(key)

    def traceparent(self, key: Key) -> str | None:
        return self._family.traceparent(key)

    async def _charge(
        self, action: Action, payment: Payment, entry: PaymentEntry | None, trouble: FailureState | None
    ) -> PaymentEntry:
        merchant = payment.metadata.namespace
        if entry is None:
            self._family.check_planned(payment)
            return await self._ledger.intend(
                merchant,
                payment.spec.order_ref.uid,
                name=payment.metadata.name,
                amount=payment.spec.amount,
                currency=payment.spec.currency,
                method=payment.spec.method,
            )
        if action is Action.CAPTURE_NOTHING:
            return await self._ledger.capture(merchant, entry.order_uid, 0)
        if action is Action.CREATE:
            try:
                intent = await self._create(merchant, entry, trouble)
            except Refused as no:
                return await self._ledger.decline(merchant, entry.order_uid, no.reason, no.message)
            try:
                return await self._confirm(merchant, entry, intent.id)
            except GateClosed:
                return await self._ledger.record_intent(merchant, entry.order_uid, intent.id)
        return await self._confirm(merchant, entry, entry.intent_id or "")

    async def _create(self, merchant: str, entry: PaymentEntry, trouble: FailureState | None) -> Intent:
        if trouble is not None and trouble.tries >= SAME_KEY_TRIES:
            entry = await self._ledger.next_create_attempt(merchant, entry.order_uid, entry.create_attempt)
        return await self._provider.create_intent(
            key=f"{entry.order_uid}/create/{entry.create_attempt}",
            amount=entry.amount,
            currency=entry.currency,
            method=entry.method,
            merchant=merchant,
            reference=entry.order_uid,
        )

    async def _confirm(self, merchant: str, entry: PaymentEntry, intent_id: str) -> PaymentEntry:
        """Write down that it is about to be sent, then send it; an unclear answer ends in a GET, later."""
        attempt = entry.confirm_attempt + 1
        entry = await self._ledger.begin_confirm(merchant, entry.order_uid, intent_id, attempt)
        if entry.intent_id != intent_id or entry.confirm_attempt != attempt:
            return entry
        try:
            intent = await self._provider.confirm(intent_id, key=f"{entry.order_uid}/confirm/{attempt}")
        except Refused as no:
            intent = await self._provider.get_intent(intent_id)
            if intent.state is IntentState.UNCONFIRMED:
                return await self._ledger.decline(merchant, entry.order_uid, no.reason, no.message)
        return await self._settle(merchant, entry, intent)

    async def _settle(self, merchant: str, entry: PaymentEntry, intent: Intent) -> PaymentEntry:
        match intent.state:
            case IntentState.CAPTURED:
                return await self._ledger.capture(merchant, entry.order_uid, intent.received)
            case IntentState.REFUSED:
                reason = intent.reason or "PaymentDeclined"
                message = intent.message or "The payment was declined."
                return await self._ledger.decline(merchant, entry.order_uid, reason, message)
            case IntentState.CANCELLED:
                message = "The payment was cancelled at the provider."
                return await self._ledger.decline(merchant, entry.order_uid, "PaymentCancelled", message)
            case IntentState.UNCONFIRMED | IntentState.PROCESSING:
                return entry

    async def _undo(
        self, action: Action, key: Key, entry: PaymentEntry, trouble: FailureState | None
    ) -> PaymentEntry:
        merchant, uid = key[0], entry.order_uid
        match action:
            case Action.FORGET:
                return await self._ledger.cancel(merchant, uid)
            case Action.CANCEL:
                return await self._cancel(merchant, entry)
            case Action.REQUEST_REFUND:
                return await self._ledger.request_refund(merchant, uid)
            case Action.SEND_REFUND:
                return await self._send_refund(merchant, entry, trouble)
            case Action.CHECK_REFUND:
                refund = await self._provider.get_refund(entry.refunds[-1].provider_id or "")
                return await self._note_refund(merchant, entry, refund)
            case _:
                return await self._retry_refund(key, entry)

    async def _cancel(self, merchant: str, entry: PaymentEntry) -> PaymentEntry:
        intent = await self._provider.cancel_intent(entry.intent_id or "")
        match intent.state:
            case IntentState.CANCELLED:
                return await self._ledger.cancel(merchant, entry.order_uid)
            case IntentState.CAPTURED:
                return await self._ledger.capture(merchant, entry.order_uid, intent.received)
            case state:
                raise Transient(
                    Reason.PAYMENT_PROCESSING, f"the payment is {state}; its cancellation waits for that"
                )

    async def _send_refund(
        self, merchant: str, entry: PaymentEntry, trouble: FailureState | None
    ) -> PaymentEntry:
        refund = entry.refunds[-1]
        found = await self._provider.find_refund(entry.intent_id or "", refund.id)
        if found is None:
            if trouble is not None and trouble.tries >= SAME_KEY_TRIES:
                entry = await self._ledger.next_refund_attempt(merchant, entry.order_uid, refund.id)
                refund = entry.refunds[-1]
            try:
                found = await self._provider.refund(
                    entry.intent_id or "",
                    key=f"{refund.id}/{refund.attempt}",
                    amount=refund.amount,
                    reference=refund.id,
                )
            except Refused as no:
                raise Unclear(Reason.REFUND_REFUSED, f"the provider refuses the refund: {no.message}") from no
        return await self._note_refund(merchant, entry, found)

    async def _note_refund(self, merchant: str, entry: PaymentEntry, refund: Refund) -> PaymentEntry:
        return await self._ledger.record_refund(
            merchant,
            entry.order_uid,
            entry.refunds[-1].id,
            provider_id=refund.id,
            state=refund.state,
            reason=refund.reason,
        )

    async def _retry_refund(self, key: Key, entry: PaymentEntry) -> PaymentEntry:
        """A refund that the provider failed is tried again only when somebody asks for it."""
        wish = self._family.retry_wish(key)
        if self._refund_retries.setdefault(key, self._family.handled_retry(key)) == wish:
            return entry
        self._refund_retries[key] = wish
        return await self._ledger.next_refund_attempt(key[0], entry.order_uid, entry.refunds[-1].id)

    def _is_pending(self, payment: Payment | None, gate: Gate | None, entry: PaymentEntry | None) -> bool:
        return plan(payment, gate, entry) in (Action.CHECK, Action.CHECK_REFUND, Action.SEND_REFUND)

    def _forget(self, key: Key) -> None:
        self._entries.pop(key, None)
        self._refund_retries.pop(key, None)
