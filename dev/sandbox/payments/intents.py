"""The rules of intents and refunds. Pure: what time it is comes in, what happens next comes out.

What settles later is not a write: an object carries the time at which it settles, and `seen` tells how it
stands at a given time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Quirk(StrEnum):
    """How the provider misbehaves, once, while it handles an intent with this method."""

    NONE = "none"
    SILENT_AFTER_CHARGE = "silentAfterCharge"
    SILENT_BEFORE_CHARGE = "silentBeforeCharge"
    SLOW = "slow"  # each confirm, not only the first
    ERROR_AFTER_CHARGE = "errorAfterCharge"
    ERROR_ON_CREATE = "errorOnCreate"


class Refunding(StrEnum):
    """How a refund of this method goes."""

    AT_ONCE = "atOnce"
    PENDING = "pending"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Method:
    """One magic method. `decline` is a pair of Stripe's error code and decline code."""

    decline: tuple[str, str] | None = None
    wants_action: bool = False
    is_processing: bool = False
    quirk: Quirk = Quirk.NONE
    refunding: Refunding = Refunding.AT_ONCE


METHODS = {
    "pm_card_visa": Method(),
    "pm_card_mastercard": Method(),
    "pm_card_chargeDeclined": Method(decline=("card_declined", "generic_decline")),
    "pm_card_insufficientFunds": Method(decline=("card_declined", "insufficient_funds")),
    "pm_card_expired": Method(decline=("expired_card", "expired_card")),
    "pm_card_authenticationRequired": Method(wants_action=True),
    "pm_sandbox_timeoutAfterCharge": Method(quirk=Quirk.SILENT_AFTER_CHARGE),
    "pm_sandbox_timeoutBeforeCharge": Method(quirk=Quirk.SILENT_BEFORE_CHARGE),
    "pm_sandbox_slowCharge": Method(quirk=Quirk.SLOW),
    "pm_sandbox_processing": Method(is_processing=True),
    "pm_sandbox_errorOnceAfterCharge": Method(quirk=Quirk.ERROR_AFTER_CHARGE),
    "pm_sandbox_createError": Method(quirk=Quirk.ERROR_ON_CREATE),
    "pm_sandbox_refundPending": Method(refunding=Refunding.PENDING),
    "pm_sandbox_refundFails": Method(refunding=Refunding.FAILS),
}

PENDING_SECONDS = 1.0
"""How long processing charges and pending refunds take."""


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
    """One payment intent. `confirms` counts those that reached it, `failure` is Stripe's codes."""

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
        """Minor units that were taken."""
        return self.amount if self.status is Status.SUCCEEDED else 0


@dataclass(frozen=True, slots=True)
class Refund:
    """One refund, on its way to `outcome`."""

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
    """The intent's status does not admit this; the message says which and what would."""


class TooMuch(Exception):  # noqa: N818
    """A refund of more than what is left. `left` is what is, in minor units."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


def seen(intent: Intent, now: float) -> Intent:
    """How the intent stands now."""
    if intent.status is Status.PROCESSING and intent.settles_at is not None and now >= intent.settles_at:
        return replace(intent, status=Status.SUCCEEDED)
    return intent


def touched(intent: Intent) -> Intent:
    """A confirm reached it and was lost before it did anything."""
    return replace(intent, confirms=intent.confirms + 1)


def confirm(intent: Intent, method: Method, now: float) -> Intent:
    """Take the money, or not.

    Raises:
        WrongState: it has taken money, cannot any more, or its method was declined.
    """
    intent = touched(seen(intent, now))
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
    """Make sure it never takes money.

    Raises:
        WrongState: it has, is about to, or was cancelled before.
    """
    intent = seen(intent, now)
    if intent.status in (Status.SUCCEEDED, Status.PROCESSING, Status.CANCELED):
        raise WrongState(f"This PaymentIntent cannot be canceled: its status is {intent.status}.")
    return replace(intent, status=Status.CANCELED, canceled_at=int(now))


def refundable(intent: Intent, refunds: Iterable[Refund], now: float) -> int:
    """Minor units that can still be given back; a failed refund gives its amount free again."""
    given = sum(r.amount for r in refunds if r.status(now) is not RefundStatus.FAILED)
    return seen(intent, now).received - given


def refund(
    id_: str,
    intent: Intent,
    method: Method,
    earlier: Iterable[Refund],
    *,
    amount: int | None,
    metadata: dict[str, str],
    now: float,
) -> Refund:
    """Give `amount` back, all that is left where it is None.

    Raises:
        WrongState: nothing was taken.
        TooMuch: less than that is left.
    """
    if seen(intent, now).status is not Status.SUCCEEDED:
        raise WrongState(f"PaymentIntent {intent.id} does not have a successful charge to refund.")
    left = refundable(intent, earlier, now)
    wanted = left if amount is None else amount
    if wanted > left or wanted < 1:
        raise TooMuch(left)
    is_later = method.refunding is not Refunding.AT_ONCE
    return Refund(
        id=id_,
        intent=intent.id,
        amount=wanted,
        currency=intent.currency,
        created=int(now),
        outcome=RefundStatus.FAILED if method.refunding is Refunding.FAILS else RefundStatus.SUCCEEDED,
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
