"""What the payment controller needs of a payment provider."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orderplane.crds.reasons import Reason
from orderplane.ledgers.payments import ProviderRefundState


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

    async def find_refund(self, intent_id: str, reference: str) -> Refund | None:
        """The refund of this intent that carries `reference`; None where the provider knows of none."""
        ...

    def intents(self) -> AsyncIterator[Intent]:
        """Every intent the provider knows, for the audit; paginated inside."""
        ...

    def refunds(self) -> AsyncIterator[Refund]:
        """Every refund the provider knows, for the audit; paginated inside."""
        ...
