"""The rules of payment intents and refunds, and the test payment methods. Pure: the time is an argument.

Settling later is not a write: an object holds the time at which it settles, and `as_of` returns its state at
a given time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Fault(StrEnum):
    """A fault of the provider, at the first request for an intent with this method."""

    NONE = "none"
    NO_REPLY_AFTER_CHARGE = "silentAfterCharge"
    NO_REPLY_BEFORE_CHARGE = "silentBeforeCharge"
    SLOW = "slow"  # at every confirm
    ERROR_AFTER_CHARGE = "errorAfterCharge"
    ERROR_ON_CREATE = "errorOnCreate"


class RefundBehaviour(StrEnum):
    """The outcome of a refund to this method."""

    AT_ONCE = "atOnce"
    PENDING = "pending"
    FAILS = "fails"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """One test payment method. `decline` is a pair of Stripe's error code and decline code."""

    decline: tuple[str, str] | None = None
    wants_action: bool = False
    is_processing: bool = False
    fault: Fault = Fault.NONE
    refund_behaviour: RefundBehaviour = RefundBehaviour.AT_ONCE
    is_disputed: bool = False


METHODS = {
    "pm_card_visa": PaymentMethod(),
    "pm_card_mastercard": PaymentMethod(),
    "pm_card_chargeDeclined": PaymentMethod(decline=("card_declined", "generic_decline")),
    "pm_card_insufficientFunds": PaymentMethod(decline=("card_declined", "insufficient_funds")),
    "pm_card_expired": PaymentMethod(decline=("expired_card", "expired_card")),
    "pm_card_authenticationRequired": PaymentMethod(wants_action=True),
    "pm_sandbox_timeoutAfterCharge": PaymentMethod(fault=Fault.NO_REPLY_AFTER_CHARGE),
    "pm_sandbox_timeoutBeforeCharge": PaymentMethod(fault=Fault.NO_REPLY_BEFORE_CHARGE),
    "pm_sandbox_slowCharge": PaymentMethod(fault=Fault.SLOW),
    "pm_sandbox_processing": PaymentMethod(is_processing=True),
    "pm_sandbox_errorOnceAfterCharge": PaymentMethod(fault=Fault.ERROR_AFTER_CHARGE),
    "pm_sandbox_createError": PaymentMethod(fault=Fault.ERROR_ON_CREATE),
    "pm_sandbox_refundPending": PaymentMethod(refund_behaviour=RefundBehaviour.PENDING),
    "pm_sandbox_refundFails": PaymentMethod(refund_behaviour=RefundBehaviour.FAILS),
    "pm_sandbox_refundRefused": PaymentMethod(refund_behaviour=RefundBehaviour.REFUSED),
    "pm_card_createDispute": PaymentMethod(is_disputed=True),
}

PENDING_SECONDS = 1.0
"""Duration of processing charges and pending refunds."""


class Status(StrEnum):
    """https://docs.stripe.com/payments/paymentintents/lifecycle"""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


class RefundStatus(StrEnum):
    """https://docs.stripe.com/api/refunds/object#refund_object-status"""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Intent:
    """One payment intent. `confirms` counts confirm requests, `failure` holds Stripe's two codes."""

    id: str
    amount: int
    currency: str
    method: str
    created: int
    status: Status = Status.REQUIRES_CONFIRMATION
    metadata: dict[str, str] = field(default_factory=dict)
    confirms: int = 0
    failure: tuple[str, str] | None = None
    settles_at: float | None = None
    canceled_at: int | None = None

    @property
    def received(self) -> int:
        """Captured amount in minor units."""
        return self.amount if self.status is Status.SUCCEEDED else 0


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund, pending until `settles_at`, then `outcome`."""

    id: str
    intent: str
    amount: int
    currency: str
    created: int
    outcome: RefundStatus
    settles_at: float
    metadata: dict[str, str] = field(default_factory=dict)

    def status(self, now: float) -> RefundStatus:
        """How it stands."""
        return self.outcome if now >= self.settles_at else RefundStatus.PENDING


class WrongState(Exception):  # noqa: N818 - a verdict
    """The status of the intent does not permit this; the message says which would."""


class AmountTooLarge(Exception):  # noqa: N818
    """A refund of more than can be refunded, which is `left`, in minor units."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


def as_of(intent: Intent, now: float) -> Intent:
    """The intent as it is at the time `now`."""
    if intent.status is Status.PROCESSING and intent.settles_at is not None and now >= intent.settles_at:
        return replace(intent, status=Status.SUCCEEDED)
    return intent


def count_attempt(intent: Intent) -> Intent:
    """Count a confirm request."""
    return replace(intent, confirms=intent.confirms + 1)


def confirm(intent: Intent, method: PaymentMethod, now: float) -> Intent:
    """Charge the payment method, or decline.

    Raises:
        WrongState: it is charged, canceled, or its method was declined.
    """
    intent = count_attempt(as_of(intent, now))
    if intent.status is Status.REQUIRES_ACTION:
        return intent
    if intent.status is not Status.REQUIRES_CONFIRMATION:
        raise WrongState(
            f"This PaymentIntent's status is {intent.status}. Only one that requires_confirmation or "
            "requires_action can be confirmed."
        )
    if method.decline:
        return replace(intent, status=Status.REQUIRES_PAYMENT_METHOD, failure=method.decline)
    if method.wants_action:
        return replace(intent, status=Status.REQUIRES_ACTION)
    if method.is_processing:
        return replace(intent, status=Status.PROCESSING, settles_at=now + PENDING_SECONDS)
    return replace(intent, status=Status.SUCCEEDED, settles_at=now)


def cancel(intent: Intent, now: float) -> Intent:
    """Cancel, so that it is never charged.

    Raises:
        WrongState: it is charged, processing, or canceled.
    """
    intent = as_of(intent, now)
    if intent.status in (Status.SUCCEEDED, Status.PROCESSING, Status.CANCELED):
        raise WrongState(f"This PaymentIntent cannot be canceled: its status is {intent.status}.")
    return replace(intent, status=Status.CANCELED, canceled_at=int(now))


def refundable(intent: Intent, refunds: Iterable[Refund], now: float) -> int:
    """Minor units that can still be refunded; failed refunds do not count."""
    given = sum(r.amount for r in refunds if r.status(now) is not RefundStatus.FAILED)
    return as_of(intent, now).received - given


def refund(
    id_: str,
    intent: Intent,
    method: PaymentMethod,
    earlier: Iterable[Refund],
    *,
    amount: int | None,
    metadata: dict[str, str],
    now: float,
) -> Refund:
    """Refund `amount`, or all that is left if it is None.

    Raises:
        WrongState: it was not charged.
        AmountTooLarge: less than that is left.
    """
    if as_of(intent, now).status is not Status.SUCCEEDED:
        raise WrongState(f"PaymentIntent {intent.id} does not have a successful charge to refund.")
    left = refundable(intent, earlier, now)
    wanted = left if amount is None else amount
    if wanted > left or wanted < 1:
        raise AmountTooLarge(left)
    is_later = method.refund_behaviour is not RefundBehaviour.AT_ONCE
    return Refund(
        id=id_,
        intent=intent.id,
        amount=wanted,
        currency=intent.currency,
        created=int(now),
        outcome=RefundStatus.FAILED
        if method.refund_behaviour is RefundBehaviour.FAILS
        else RefundStatus.SUCCEEDED,
        settles_at=now + PENDING_SECONDS if is_later else now,
        metadata=metadata,
    )


def read_intent(row: dict[str, object]) -> Intent:
    """From the store."""
    failure = row["failure"]
    codes = (str(failure[0]), str(failure[1])) if isinstance(failure, list) else None
    return Intent(**{**row, "status": Status(str(row["status"])), "failure": codes})  # type: ignore[arg-type]


def read_refund(row: dict[str, object]) -> Refund:
    """From the store."""
    return Refund(**{**row, "outcome": RefundStatus(str(row["outcome"]))})  # type: ignore[arg-type]
