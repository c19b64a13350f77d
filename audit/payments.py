"""Payments: money is taken at most once, all of it goes back if the order is undone, both sides agree."""

from collections import defaultdict
from collections.abc import Iterator

from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.controllers.payment.ports import IntentState
from orderplane.ledgers.payments import ProviderRefundState
from orderplane.ledgers.states import GOODS_LEFT, PAID_BACK, PaymentState, RefundState


def orders_are_paid_exactly(snapshot: Snapshot) -> Iterator[Violation]:
    """The total was taken where the goods have left; nothing is kept where the order was compensated."""
    refunded: dict[str, int] = defaultdict(int)
    for withdrawal in snapshot.tables["withdrawals"]:
        refunded[str(withdrawal["order_uid"])] += withdrawal["amount"]
    for refund in snapshot.tables["refunds"]:
        if refund["state"] in PAID_BACK:
            refunded[str(refund["order_uid"])] += refund["amount"]
    payments = {str(row["order_uid"]): row for row in snapshot.tables["payments"]}
    for order in snapshot.tables["orders"]:
        if order["outcome"] is None:
            continue
        payment = payments.get(str(order["uid"]))
        captured = payment["captured"] if payment else 0
        is_sold = order["outcome"] in GOODS_LEFT
        kept = captured if is_sold else captured - refunded[str(order["uid"])]
        owed = order["total"] if is_sold else 0
        subject = f"{order['merchant']}/{order['name']}"
        if kept != owed:
            yield Violation("payment-total", subject, f"{order['outcome']}: {kept} kept, {owed} owed")
        if payment and payment["currency"] != order["currency"]:
            yield Violation(
                "payment-currency", subject, f"paid in {payment['currency']}, priced in {order['currency']}"
            )


def intents_match_the_ledger(snapshot: Snapshot) -> Iterator[Violation]:
    """Every intent that could take money is in the ledger, and both say the same."""
    by_intent = {row["intent_id"]: row for row in snapshot.tables["payments"] if row["intent_id"]}
    seen = set()
    for intent in snapshot.intents:
        row = by_intent.get(intent.id)
        seen.add(intent.id)
        if row is None:
            # A create whose answer was lost leaves an intent that is never confirmed.
            if intent.state not in (IntentState.UNCONFIRMED, IntentState.CANCELLED):
                yield Violation(
                    "intent-unknown",
                    intent.id,
                    f"{intent.state} at the provider for order {intent.reference}, not in the ledger",
                )
            continue
        if intent.reference != str(row["order_uid"]):
            yield Violation(
                "intent-order",
                intent.id,
                f"for order {intent.reference} at the provider, for {row['order_uid']} in the ledger",
            )
        # The answer of a confirm was lost: the ledger is behind until the provider is asked again.
        is_behind = not row["captured"] and snapshot.is_unsealed(str(row["order_uid"]))
        is_captured = intent.state is IntentState.CAPTURED
        if is_captured and intent.received != row["captured"] and not is_behind:
            yield Violation(
                "intent-captured",
                intent.id,
                f"{intent.received} taken at the provider, {row['captured']} in the ledger",
            )
        if not is_captured and row["captured"]:
            yield Violation(
                "intent-captured",
                intent.id,
                f"{row['captured']} captured in the ledger, {intent.state} at the provider",
            )
        if row["state"] == PaymentState.CANCELLED and intent.state is not IntentState.CANCELLED:
            yield Violation(
                "intent-cancelled", intent.id, f"Cancelled in the ledger, {intent.state} at the provider"
            )
        if (intent.amount, intent.currency) != (row["amount"], row["currency"]):
            yield Violation(
                "intent-amount",
                intent.id,
                f"{intent.amount} {intent.currency} at the provider, {row['amount']} {row['currency']} here",
            )
    for intent_id, row in by_intent.items():
        if intent_id not in seen:
            yield Violation(
                "intent-missing", intent_id, f"in the ledger as {row['state']}, not at the provider"
            )


def no_order_is_charged_twice(snapshot: Snapshot) -> Iterator[Violation]:
    """At most one intent of an order has taken money."""
    captured: dict[str, list[str]] = defaultdict(list)
    for intent in snapshot.intents:
        if intent.received:
            captured[intent.reference].append(intent.id)
    for order, intents in captured.items():
        if len(intents) > 1:
            yield Violation("charged-twice", order, f"captured by {', '.join(sorted(intents))}")


def refunds_match_the_ledger(snapshot: Snapshot) -> Iterator[Violation]:
    """Every refund is on both sides, of the same payment, with the same amount and result.

    What somebody else refunded of a known payment is judged by the invariants of withdrawals.
    """
    ours = {str(row["id"]): row for row in snapshot.tables["refunds"]}
    payments = {str(row["order_uid"]): row for row in snapshot.tables["payments"]}
    intents = {row["intent_id"] for row in snapshot.tables["payments"]}
    seen: dict[str, str] = {}
    for refund in snapshot.refunds:
        row = ours.get(refund.reference)
        if row is None:
            if refund.intent_id not in intents:
                yield Violation("refund-unknown", refund.id, "of a payment that is not in the ledger")
            continue
        if refund.state is not ProviderRefundState.FAILED:
            if refund.reference in seen:
                yield Violation(
                    "refunded-twice", refund.reference, f"{seen[refund.reference]} and {refund.id}"
                )
            seen[refund.reference] = refund.id
        if refund.amount != row["amount"]:
            yield Violation(
                "refund-amount", refund.id, f"{refund.amount} at the provider, {row['amount']} in the ledger"
            )
        payment = payments[str(row["order_uid"])]
        if (refund.intent_id, refund.currency) != (payment["intent_id"], payment["currency"]):
            yield Violation(
                "refund-payment",
                refund.id,
                f"{refund.currency} of {refund.intent_id} at the provider, "
                f"{payment['currency']} of {payment['intent_id']} in the ledger",
            )
        is_settled = row["state"] == RefundState.SUCCEEDED and row["provider_id"] == refund.id
        if is_settled and refund.state is not ProviderRefundState.SUCCEEDED:
            yield Violation("refund-state", refund.id, f"Succeeded in the ledger, {refund.state} there")
        if refund.state is ProviderRefundState.SUCCEEDED and row["state"] in (
            RefundState.FAILED,
            RefundState.SETTLED_BY_HAND,
        ):
            yield Violation("refund-state", refund.id, f"{row['state']} in the ledger, Succeeded there")
    for reference, row in ours.items():
        if row["state"] == RefundState.SUCCEEDED and reference not in seen:
            yield Violation("refund-missing", reference, "Succeeded in the ledger, not at the provider")
