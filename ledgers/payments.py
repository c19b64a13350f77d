"""What the payment controller needs of the payment ledger."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orderplane.ledgers.gate import PaymentState


class ProviderRefundState(StrEnum):
    """Where the provider says one refund is."""

    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class RefundState(StrEnum):
    """One refund in the ledger. SETTLED_BY_HAND: somebody paid it back outside, and signed for it."""

    REQUESTED = "Requested"
    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SETTLED_BY_HAND = "SettledByHand"


@dataclass(frozen=True, slots=True)
class RefundEntry:
    """One refund; `attempt` is part of its idempotency key."""

    id: str
    amount: int
    state: RefundState
    provider_id: str | None
    attempt: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class PaymentEntry:
    """One payment. A `confirm_attempt` above 0 means that a confirm was begun and may have landed."""

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

    @property
    def refunded(self) -> int:
        """Minor units that were given back."""
        done = (RefundState.SUCCEEDED, RefundState.SETTLED_BY_HAND)
        return sum(refund.amount for refund in self.refunds if refund.state in done)


class PaymentLedger(Protocol):
    """Money that was taken and given back. Each method is one transaction and answers the entry after it.

    Raises (each of them): GateClosed where the order's row does not admit it.
    """

    async def uid_of(self, merchant: str, name: str) -> str | None:
        """The order's uid of the newest entry that was made for a resource of that name."""
        ...

    async def read(self, merchant: str, order_uid: str) -> PaymentEntry | None:
        """The entry; None where no payment was ever begun."""
        ...

    async def intend(
        self, merchant: str, order_uid: str, *, name: str, amount: int, currency: str, method: str
    ) -> PaymentEntry:
        """Begin: pin the stock and write the entry. Needs OPEN.

        Raises:
            Refused: the amount is not the order's total (`AmountMismatch`).
            Transient: the stock is not held (`StockNotHeld`).
        """
        ...

    async def next_create_attempt(self, merchant: str, order_uid: str, attempt: int) -> PaymentEntry:
        """The provider stored a failure under create key `attempt`: use another. Needs OPEN."""
        ...

    async def begin_confirm(
        self, merchant: str, order_uid: str, intent_id: str, attempt: int
    ) -> PaymentEntry:
        """Write down that confirm `attempt` of this intent is about to be sent. Needs OPEN."""
        ...

    async def record_intent(self, merchant: str, order_uid: str, intent_id: str) -> PaymentEntry:
        """Keep the id of an intent whose confirm was not admitted, to cancel it. OPEN or COMPENSATING."""
        ...

    async def capture(self, merchant: str, order_uid: str, received: int) -> PaymentEntry:
        """The money was taken: `payment.success`. OPEN or COMPENSATING: a charge can land late."""
        ...

    async def decline(self, merchant: str, order_uid: str, reason: str, message: str) -> PaymentEntry:
        """The provider refused: `payment.failed`. OPEN or COMPENSATING."""
        ...

    async def cancel(self, merchant: str, order_uid: str) -> PaymentEntry:
        """No money was taken and none can be: `payment.cancelled`. Needs COMPENSATING."""
        ...

    async def request_refund(self, merchant: str, order_uid: str) -> PaymentEntry:
        """Decide to give back all that was captured. Needs COMPENSATING, and no label alive."""
        ...

    async def record_refund(
        self,
        merchant: str,
        order_uid: str,
        refund_id: str,
        *,
        provider_id: str,
        state: ProviderRefundState,
        reason: str | None,
    ) -> PaymentEntry:
        """Record the provider's answer; success appends `payment.refunded`. Needs COMPENSATING."""
        ...

    async def next_refund_attempt(self, merchant: str, order_uid: str, refund_id: str) -> PaymentEntry:
        """Retry a refund under a new key, once the provider has none. Needs COMPENSATING."""
        ...
