"""What a Payment's status says. Pure: it follows from the ledger entry alone."""

from datetime import datetime

from orderplane.controllers.engine.conditions import Fact
from orderplane.controllers.engine.delays import Delay, reported
from orderplane.crds.money import decimal_of, format_minor
from orderplane.crds.payment import Payment, PaymentPhase, PaymentStatus
from orderplane.crds.reasons import Reason
from orderplane.ledgers.payments import PaymentEntry
from orderplane.ledgers.states import PaymentState, RefundState


def status_of(
    payment: Payment, entry: PaymentEntry | None, delay: Delay | None, now: datetime
) -> PaymentStatus:
    """The status as it should be; equal to the old one where nothing is new."""
    is_captured = entry is not None and entry.state in (PaymentState.CAPTURED, PaymentState.REFUNDED)
    plain = PaymentStatus(
        observed_generation=payment.metadata.generation,
        phase=_phase(entry),
        reason=entry.reason if entry else None,
        conditions=payment.status.conditions,
        intent_id=entry.intent_id if entry else None,
        # For people, and not worth a write of its own.
        amount=decimal_of(entry.amount, entry.currency) if entry and entry.intent_id else None,
        captured_amount=_decimal(entry, entry.captured) if entry else None,
        refunded_amount=_decimal(entry, entry.refunded) if entry else None,
        captured=entry.captured if entry else 0,
        refunded=entry.refunded if entry else 0,
        withdrawn=entry.withdrawn if entry else 0,
    )
    if entry is not None and (failed := _failed_refund(entry)) and not (delay and delay.is_stalled):
        delay = Delay(failed.reason, failed.message, is_stalled=True)
    return reported(
        plain,
        _facts(entry) if entry else [],
        "Refunded" if is_captured else "Captured",
        delay,
        now,
        is_under_way=_is_under_way(payment, entry, delay),
    )


def _decimal(entry: PaymentEntry, minor: int) -> str | None:
    return decimal_of(minor, entry.currency) if minor else None


def _is_under_way(payment: Payment, entry: PaymentEntry | None, delay: Delay | None) -> bool:
    if entry is None or entry.state is PaymentState.INTENDED or entry.unsettled:
        return True
    is_open = entry.state in (PaymentState.CAPTURED, PaymentState.DECLINED)
    return delay is not None and payment.is_deleting and is_open


def _phase(entry: PaymentEntry | None) -> PaymentPhase:
    if entry is None:
        return PaymentPhase.PENDING
    match entry.state:
        case PaymentState.INTENDED:
            return PaymentPhase.PENDING
        case PaymentState.CAPTURED:
            return PaymentPhase.REFUNDING if entry.unsettled else PaymentPhase.CAPTURED
        case PaymentState.DECLINED:
            return PaymentPhase.DECLINED
        case PaymentState.CANCELLED:
            return PaymentPhase.DECLINED if entry.reason else PaymentPhase.CANCELLED
        case PaymentState.REFUNDED:
            return PaymentPhase.REFUNDED


def _refunded(entry: PaymentEntry) -> str:
    message = "The whole amount was given back."
    if not entry.withdrawals:
        return message
    ids = ", ".join(withdrawal.provider_id for withdrawal in entry.withdrawals)
    elsewhere = format_minor(entry.withdrawn, entry.currency)
    return f"{message} {elsewhere} of it left at the payment provider without this order ({ids})."[:1024]


def _failed_refund(entry: PaymentEntry) -> Fact | None:
    """What is to be said where the provider has failed a refund: a person has to act."""
    failed = next((refund for refund in entry.refunds if refund.state is RefundState.FAILED), None)
    if failed is None:
        return None
    reason = (failed.reason or "the provider did not say why").removesuffix(".")
    amount = format_minor(failed.amount, entry.currency)
    return Fact(
        "Refunded", "False", Reason.REFUND_FAILED,
        f"The refund failed: {reason}. Pay {amount} back and run `orderplane resolve`, or "
        "`orderplane retry` to try again.",
    )  # fmt: skip


def _not_refunded(entry: PaymentEntry) -> Fact | None:
    """What is to be said of the refunds of a payment of which something is left with us."""
    if (failed := _failed_refund(entry)) is not None:
        return failed
    if entry.unsettled or not entry.refunds:
        return None
    back = format_minor(entry.refunded + entry.withdrawn, entry.currency)
    captured = format_minor(entry.captured, entry.currency)
    return Fact("Refunded", "False", Reason.PARTLY_REFUNDED, f"{back} of {captured} has gone back.")


def _facts(entry: PaymentEntry) -> list[Fact]:
    match entry.state:
        case PaymentState.INTENDED:
            return []
        case PaymentState.CAPTURED:
            captured = Fact("Captured", "True", Reason.PAYMENT_CAPTURED, "The whole amount was taken.")
            refunded = _not_refunded(entry)
            return [captured, refunded] if refunded else [captured]
        case PaymentState.REFUNDED:
            return [
                Fact("Captured", "True", Reason.PAYMENT_CAPTURED, "The whole amount was taken."),
                Fact("Refunded", "True", Reason.REFUNDED, _refunded(entry)),
            ]
        case PaymentState.DECLINED | PaymentState.CANCELLED:
            reason = entry.reason or Reason.PAYMENT_CANCELLED
            return [Fact("Captured", "False", reason, entry.message or "No money was taken.")]
