"""What the payment controller needs of a payment provider."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orderplane.crds.reasons import Reason
from orderplane.ledgers.payments import ProviderRefundState, Withdrawal, WithdrawalKind


class IntentState(StrEnum):
    """Where the provider says the money of one intent is."""

    UNCONFIRMED = "Unconfirmed"  # cannot take money until it is confirmed
    PROCESSING = "Processing"  # confirmed, the outcome is not known yet
    CAPTURED = "Captured"
    REFUSED = "Refused"  # declined, or wants the customer to act; still has to be cancelled
    CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True)
class Intent:
    """One payment intent as the provider shows it.

    Args:
        received: Minor units that were really taken.
        reference: The Order's uid that `create_intent` was given.
        reason: Why it was refused; None otherwise.
        message: The same, as a sentence that a customer may read.
    """

    id: str
    state: IntentState
    amount: int
    currency: str
    received: int
    reference: str
    reason: Reason | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund as the provider shows it; `reference` is the ledger's id of it."""

    id: str
    intent_id: str
    state: ProviderRefundState
    amount: int
    currency: str
    reference: str
    reason: str | None = None


class DisputeState(StrEnum):
    """How a dispute stands: where the disputed money is."""

    INQUIRY = "Inquiry"  # the bank only asks, and has taken nothing
    OPEN = "Open"  # the bank has taken the money until it has decided
    WON = "Won"  # by the merchant: the money is back
    LOST = "Lost"  # the customer keeps the money


@dataclass(frozen=True, slots=True)
class Dispute:
    """One dispute, also called chargeback, as the provider shows it; `amount` is in minor units."""

    id: str
    intent_id: str
    state: DisputeState
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Returns:
    """All that has left, or may still leave, one payment at the provider: by us, by others, by the bank."""

    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()

    def refund_of(self, reference: str) -> Refund | None:
        """Our refund, unless it failed; None where the provider has none of it."""
        return next((refund for refund in self._alive() if refund.reference == reference), None)

    def withdrawals(self, ours: Collection[str]) -> tuple[Withdrawal, ...]:
        """What has left for good without us; `ours` are the references of our own refunds."""
        refunds = [
            Withdrawal(refund.id, WithdrawalKind.REFUND, refund.amount)
            for refund in self._alive()
            if refund.reference not in ours and refund.state is ProviderRefundState.SUCCEEDED
        ]
        disputes = [
            Withdrawal(dispute.id, WithdrawalKind.DISPUTE, dispute.amount)
            for dispute in self.disputes
            if dispute.state is DisputeState.LOST
        ]
        return (*refunds, *disputes)

    def pending(self, ours: Collection[str]) -> Refund | None:
        """A refund that somebody else has made and that may still fail; `ours` as for `withdrawals`."""
        others = (refund for refund in self._alive() if refund.reference not in ours)
        return next((refund for refund in others if refund.state is ProviderRefundState.PENDING), None)

    @property
    def open_dispute(self) -> Dispute | None:
        """A dispute of which it is not known who gets the money."""
        return next((dispute for dispute in self.disputes if dispute.state is DisputeState.OPEN), None)

    def _alive(self) -> tuple[Refund, ...]:
        return tuple(refund for refund in self.refunds if refund.state is not ProviderRefundState.FAILED)


class PaymentProvider(Protocol):
    """A payment provider with two-step charging.

    Every method raises `Transient` (not carried out: refused connection, 429, open breaker),
    `Unclear` (timeout, dropped connection, 5xx: ask before repeating) or `Refused`.
    A decline is an answer, an `Intent` that is REFUSED, not an exception.
    """

    async def create_intent(
        self, *, key: str, amount: int, currency: str, method: str, merchant: str, reference: str
    ) -> Intent:
        """Make an intent that cannot take money yet; `key` for idempotency, `reference` the Order's uid."""
        ...

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        """Take the money."""
        ...

    async def get_intent(self, intent_id: str) -> Intent:
        """Tell how one intent stands; safe to repeat, retried inside."""
        ...

    async def cancel_intent(self, intent_id: str) -> Intent:
        """Make sure an intent can never take money.

        Answers the intent as it stands afterwards: CANCELLED, or CAPTURED or PROCESSING when the money was
        faster. Never raises `Refused` for that.
        """
        ...

    async def refund(self, intent_id: str, *, key: str, amount: int, currency: str, reference: str) -> Refund:
        """Give `amount` minor units back. `reference` is the ledger's id of this refund."""
        ...

    async def get_refund(self, refund_id: str) -> Refund:
        """Tell how one refund stands; safe to repeat, retried inside."""
        ...

    async def returns(self, intent_id: str) -> Returns:
        """All refunds and disputes of one intent; safe to repeat, retried inside."""
        ...

    def intents(self) -> AsyncIterator[Intent]:
        """Every intent the provider knows, for the audit; paginated inside."""
        ...

    def refunds(self) -> AsyncIterator[Refund]:
        """Every refund the provider knows, for the audit; paginated inside."""
        ...

    def disputes(self) -> AsyncIterator[Dispute]:
        """Every dispute the provider knows, for the audit; paginated inside."""
        ...
