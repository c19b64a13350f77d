"""What each magic payment method does."""

from dataclasses import dataclass
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
