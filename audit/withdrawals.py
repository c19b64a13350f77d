"""Withdrawals: what left a payment at the provider without us is known, and no money goes back twice.

An order whose goods have left keeps its money in the ledger, whatever a merchant refunds at the provider:
that is the merchant's decision, so it is a notice and not a violation. An order that was compensated gave
the money back itself, so whatever else left its payment went back twice.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from orderplane.audit.snapshot import Notice, OrderRow, Snapshot, Violation
from orderplane.controllers.payment.ports import DisputeState
from orderplane.crds.money import format_minor
from orderplane.ledgers.payments import ProviderRefundState, WithdrawalKind
from orderplane.ledgers.states import GOODS_LEFT


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """A refund that is not ours, or a dispute, of a known payment.

    Args:
        state: The provider's. is_gone: The money has left for good. is_open: It is not decided yet.
    """

    id: str
    kind: WithdrawalKind
    state: str
    order: OrderRow
    amount: int
    currency: str
    is_gone: bool
    is_open: bool

    @property
    def subject(self) -> str:
        return f"{self.order['merchant']}/{self.order['name']}"

    @property
    def text(self) -> str:
        what = {WithdrawalKind.REFUND: "refund", WithdrawalKind.DISPUTE: "dispute"}[self.kind]
        return f"{what} {self.id} of {format_minor(self.amount, self.currency)}, {self.state} at the provider"


def withdrawals_are_in_the_ledger(snapshot: Snapshot) -> Iterator[Violation]:
    """What left the payment of a compensated order is in the ledger; a dispute is of a known payment."""
    known = {row["provider_id"] for row in snapshot.tables["withdrawals"]}
    intents = {row["intent_id"] for row in snapshot.tables["payments"]}
    for found in _elsewhere(snapshot):
        is_compensated = found.order["outcome"] is not None and found.order["outcome"] not in GOODS_LEFT
        if found.is_gone and is_compensated and found.id not in known:
            yield Violation("withdrawal-unknown", found.subject, f"{found.text}, not in the ledger")
    for dispute in snapshot.disputes:
        if dispute.intent_id not in intents:
            yield Violation("dispute-unknown", dispute.id, "of a payment that is not in the ledger")


def withdrawals_match_the_provider(snapshot: Snapshot) -> Iterator[Violation]:
    """What the ledger says was withdrawn was: as much of this payment, and for good."""
    there = {found.id: found for found in _elsewhere(snapshot)}
    for row in snapshot.tables["withdrawals"]:
        found = there.get(row["provider_id"])
        if found is None:
            yield Violation("withdrawal-missing", row["provider_id"], "in the ledger, not at the provider")
            continue
        if not found.is_gone:
            yield Violation("withdrawal-state", found.id, f"withdrawn in the ledger: {found.text}")
        # A dispute may be for more than the charge, because currencies move.
        is_clamped = found.kind is WithdrawalKind.DISPUTE and found.amount > row["amount"]
        if (found.order["uid"], found.kind) != (row["order_uid"], row["kind"]) or (
            found.amount != row["amount"] and not is_clamped
        ):
            yield Violation(
                "withdrawal-differs",
                found.id,
                f"{row['kind']} of {row['amount']} for {row['order_uid']} in the ledger: {found.text}",
            )


def no_payment_goes_back_twice(snapshot: Snapshot) -> Iterator[Violation]:
    """Refunds and lost disputes of an intent are no more than it has taken."""
    refunded: dict[str, int] = defaultdict(int)
    for refund in snapshot.refunds:
        if refund.state is ProviderRefundState.SUCCEEDED:
            refunded[refund.intent_id] += refund.amount
    disputed: dict[str, int] = defaultdict(int)
    for dispute in snapshot.disputes:
        if dispute.state is DisputeState.LOST:
            disputed[dispute.intent_id] += dispute.amount
    for intent in snapshot.intents:
        back, taken = refunded[intent.id], disputed[intent.id]
        if back and taken and back + taken > intent.received:
            yield Violation(
                "paid-back-twice",
                intent.id,
                f"{intent.received} taken, {back} refunded and {taken} lost in disputes",
            )


def money_that_left_elsewhere(snapshot: Snapshot) -> Iterator[Notice]:
    """Open disputes, and what left the payments of orders whose goods have left."""
    for found in _elsewhere(snapshot):
        if found.is_open and found.kind is WithdrawalKind.DISPUTE:
            yield Notice(found.subject, f"{found.text}; answer it there")
        elif found.is_gone and found.order["outcome"] in GOODS_LEFT:
            yield Notice(found.subject, f"{found.text}; the order is {found.order['outcome']}")


def _elsewhere(snapshot: Snapshot) -> Iterator[_Elsewhere]:
    orders = {row["uid"]: row for row in snapshot.tables["orders"]}
    order_of = {
        row["intent_id"]: orders[row["order_uid"]]
        for row in snapshot.tables["payments"]
        if row["intent_id"] and row["order_uid"] in orders
    }
    ours = {str(row["id"]) for row in snapshot.tables["refunds"]}
    for refund in snapshot.refunds:
        if refund.reference not in ours and refund.intent_id in order_of:
            yield _Elsewhere(
                refund.id, WithdrawalKind.REFUND, refund.state, order_of[refund.intent_id], refund.amount,
                refund.currency,
                is_gone=refund.state is ProviderRefundState.SUCCEEDED,
                is_open=refund.state is ProviderRefundState.PENDING,
            )  # fmt: skip
    for dispute in snapshot.disputes:
        if dispute.intent_id in order_of:
            yield _Elsewhere(
                dispute.id, WithdrawalKind.DISPUTE, dispute.state, order_of[dispute.intent_id],
                dispute.amount, dispute.currency,
                is_gone=dispute.state is DisputeState.LOST,
                is_open=dispute.state is DisputeState.OPEN,
            )  # fmt: skip
