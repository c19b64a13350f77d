"""The port of the payment ledger: what the payment controller needs of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orderplane.ledgers.states import PAID_BACK, PaymentState, RefundState


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


@dataclass(frozen=True, slots=True)
class PaymentEntry:
    """One payment; amounts are in minor units. A `confirm_attempt` above 0 means that a confirm was begun and
    may have taken the money, whatever was answered.
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

    @property
    def refunded(self) -> int:
        """Minor units that were given back."""
        return sum(refund.amount for refund in self.refunds if refund.state in PAID_BACK)


class PaymentLedger(Protocol):
    """Money that is taken and given back. Each method is one transaction and returns the entry after it.

    Raises (all that change something): GateClosed where the order's row does not admit it.
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
        self, merchant: str, order_uid: str, intent_id: str, attempt: int
    ) -> PaymentEntry:
        """Write down that confirm `attempt` of this intent is about to be sent. Needs OPEN."""
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

    async def cancel(self, merchant: str, order_uid: str) -> PaymentEntry:
        """No money was taken and none can be: `payment.cancelled`. Needs COMPENSATING."""
        ...

    async def request_refund(self, merchant: str, order_uid: str) -> PaymentEntry:
        """Decide to give back all that was captured. Needs COMPENSATING, and no label that may be valid."""
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
        """Record what the provider says of a refund; success is `payment.refunded`. Needs COMPENSATING."""
        ...

    async def next_refund_attempt(self, merchant: str, order_uid: str, refund_id: str) -> PaymentEntry:
        """Request a refund again, under another key; the provider has none of it. Needs COMPENSATING."""
        ...
