"""The port of the payment ledger: what the payment controller needs of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from orderplane.ledgers.states import (
    EVER_CAPTURED,
    NOT_MADE,
    PAID_BACK,
    UNSETTLED,
    GateState,
    PaymentState,
    RefundState,
)


class ProviderRefundState(StrEnum):
    """The state of a refund at the payment provider."""

    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class RefundEntry:
    """One refund; `attempt` is part of its idempotency key."""

    id: str
    amount: int
    state: RefundState
    provider_id: str | None
    attempt: int
    reason: str | None


class WithdrawalKind(StrEnum):
    """How money left a payment without us."""

    REFUND = "Refund"  # somebody made a refund at the provider
    DISPUTE = "Dispute"  # the customer's bank took it, and decided for the customer


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Minor units that left a payment without us; `provider_id` is that of the refund or the dispute."""

    provider_id: str
    kind: WithdrawalKind
    amount: int


@dataclass(frozen=True, slots=True)
class PaymentEntry:
    """One payment; amounts are in minor units. A `confirm_attempt` above 0 means that a confirm was begun and
    may have taken the money, whatever was answered.

    Args:
        confirm_begun_by: Which operator has begun it.
        confirm_age: How long ago that was, when this entry was read; None where it is not known.
    """

    order_uid: str
    amount: int
    currency: str
    method: str
    state: PaymentState
    intent_id: str | None
    create_attempt: int
    confirm_attempt: int
    captured: int
    reason: str | None
    message: str | None
    refunds: tuple[RefundEntry, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()
    confirm_begun_by: str | None = None
    confirm_age: timedelta | None = field(default=None, compare=False)

    @property
    def refunded(self) -> int:
        """Minor units that we gave back."""
        return sum(refund.amount for refund in self.refunds if refund.state in PAID_BACK)

    @property
    def withdrawn(self) -> int:
        """Minor units that left without us."""
        return sum(withdrawal.amount for withdrawal in self.withdrawals)

    @property
    def left(self) -> int:
        """Minor units that the provider has not been seen to give back, nor to be giving back."""
        pending = sum(refund.amount for refund in self.refunds if refund.state is RefundState.PENDING)
        return self.captured - self.refunded - self.withdrawn - pending

    @property
    def free(self) -> int:
        """Minor units that no refund is for yet."""
        return self.left - sum(refund.amount for refund in self.not_made)

    @property
    def is_back(self) -> bool:
        """Nothing of the payment is left with us."""
        return self.refunded + self.withdrawn == self.captured

    @property
    def not_made(self) -> tuple[RefundEntry, ...]:
        """Refunds of which the provider has nothing: what is withdrawn may make them smaller."""
        return tuple(refund for refund in self.refunds if refund.state in NOT_MADE)

    @property
    def unsettled(self) -> tuple[RefundEntry, ...]:
        """Refunds whose money the customer does not have yet."""
        return tuple(refund for refund in self.refunds if refund.state in UNSETTLED)

    def refund(self, refund_id: str) -> RefundEntry:
        """The refund with this id."""
        return next(refund for refund in self.refunds if refund.id == refund_id)


def new_withdrawals(entry: PaymentEntry, found: Iterable[Withdrawal]) -> tuple[Withdrawal, ...]:
    """Those of `found` that the entry does not have, none of more than what is left of the payment."""
    known = {withdrawal.provider_id for withdrawal in entry.withdrawals}
    left, new = entry.left, []
    for withdrawal in found:
        amount = min(withdrawal.amount, left)
        if withdrawal.provider_id not in known and amount > 0:
            new.append(replace(withdrawal, amount=amount))
            left -= amount
    return tuple(new)


def amounts_after(entry: PaymentEntry, new: Iterable[Withdrawal]) -> dict[str, int]:
    """What each refund that is not made is for once `new` has left, by its id; 0: it is not needed any more.

    No refund is for more than what is left. One that the provider has failed is done by whoever refunds its
    amount there.
    """
    elsewhere = sum(withdrawal.amount for withdrawal in new)
    left, amounts = entry.left - elsewhere, {}
    for refund in entry.not_made:
        done = min(refund.amount, elsewhere) if refund.state is RefundState.FAILED else 0
        elsewhere -= done
        amounts[refund.id] = min(refund.amount - done, left)
        left -= amounts[refund.id]
    return amounts


def why_not_settled(
    gate: GateState | None, payment: PaymentState | None, refund: RefundState | None
) -> str | None:
    """Why no refund of an order can be settled by hand, and what to do; None where it can be."""
    if gate is None:
        return "there is no such order; check its name and the namespace"
    if gate is GateState.OPEN:
        return "it is not being compensated, so nothing is to be paid back; cancel it first"
    if refund in (RefundState.SUCCEEDED, RefundState.SETTLED_BY_HAND, RefundState.NOT_NEEDED):
        return "its money is back already; nothing is to be done"
    if gate is GateState.SEALED and refund is None:
        return "it has ended, and nothing of it is to be paid back; `orderplane audit` would name it"
    if payment not in EVER_CAPTURED:
        return "no money is known to be taken for it; `orderplane retry` asks the provider again"
    if refund is None:
        return "its money is not asked back yet: the label is taken back first; wait for that"
    if refund is not RefundState.FAILED:
        return (
            "the provider has not refused its refund; wait, or run `orderplane retry`. The condition Stalled "
            "of the order says what it waits for"
        )
    return None


class PaymentLedger(Protocol):
    """Money that is taken and given back. Each method is one transaction and returns the entry after it.

    Raises (all that change something): GateClosed where the order's row does not admit it. What is recorded
    of a refund needs COMPENSATING, or SEALED where the goods have left: then it is a refund after the sale.
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry for a Payment of that name."""
        ...

    async def read(self, merchant: str, order_uid: str) -> PaymentEntry | None:
        """The entry; None where no payment was ever begun."""
        ...

    async def intend(
        self, merchant: str, order_uid: str, *, name: str, amount: int, currency: str, method: str
    ) -> PaymentEntry:
        """Begin: pin the stock and insert the entry. Needs OPEN.

        Raises:
            Refused: the amount is not the order's total (`AmountMismatch`).
            Transient: the stock is not held (`StockNotHeld`).
        """
        ...

    async def next_create_attempt(self, merchant: str, order_uid: str, attempt: int) -> PaymentEntry:
        """The provider has stored a failure under create key `attempt`: use another key. Needs OPEN."""
        ...

    async def begin_confirm(
        self, merchant: str, order_uid: str, intent_id: str, attempt: int, *, operator: str
    ) -> PaymentEntry:
        """Write down that this operator is about to send confirm `attempt` of this intent. Needs OPEN."""
        ...

    async def record_intent(self, merchant: str, order_uid: str, intent_id: str) -> PaymentEntry:
        """Record an intent whose confirm was not admitted, so that it is cancelled. OPEN or COMPENSATING."""
        ...

    async def capture(self, merchant: str, order_uid: str, received: int) -> PaymentEntry:
        """The money was taken: `payment.success`. OPEN or COMPENSATING: a charge can land late."""
        ...

    async def decline(self, merchant: str, order_uid: str, reason: str, message: str) -> PaymentEntry:
        """The provider declined: `payment.failed`. OPEN or COMPENSATING."""
        ...

    async def cancel(self, merchant: str, order_uid: str, *, intent_id: str | None) -> PaymentEntry:
        """No money was taken and none can be: `payment.cancelled`. Needs COMPENSATING.

        Args:
            intent_id: The intent that was cancelled at the provider; None where there is none. Where the
                entry has another one by now, nothing is changed: that one can still take money.
        """
        ...

    async def request_refund(self, merchant: str, order_uid: str) -> PaymentEntry:
        """Decide to give back all that was captured. Needs COMPENSATING, and no label that may be valid."""
        ...

    async def record_withdrawals(
        self, merchant: str, order_uid: str, found: Sequence[Withdrawal]
    ) -> PaymentEntry:
        """Money has left without us: `payment.withdrawn` for each that is new, and the refunds that are not
        made are for what is left. Where that is nothing, the payment is refunded.
        """
        ...

    async def record_refund(
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
        """Record what the provider says of a refund; success is `payment.refunded`.

        Args:
            attempt: Which attempt failed: a failure is nothing new where a later one was begun.
            provider_id: None where the provider refused to make it.
        """
        ...

    async def next_refund_attempt(
        self, merchant: str, order_uid: str, refund_id: str, attempt: int
    ) -> PaymentEntry:
        """Give attempt `attempt` of a refund up and request it again, under another key; the provider has
        none of it. Each attempt is given up once: of two operators, one begins the next."""
        ...
