"""What a Payment needs next, and what its status says. Pure."""

from datetime import datetime
from enum import StrEnum

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.child import child_conditions
from orderplane.controllers.engine.conditions import Fact
from orderplane.crds.payment import Payment, PaymentPhase, PaymentStatus
from orderplane.ledgers.gate import Gate, GateState, PaymentState
from orderplane.ledgers.payments import PaymentEntry, RefundState


class Action(StrEnum):
    """One step; each ends with a ledger entry from which the next step is planned."""

    INTEND = "Intend"
    CREATE = "Create"
    CHECK = "Check"
    CONFIRM = "Confirm"
    CAPTURE_NOTHING = "CaptureNothing"
    CLOSE_GATE = "CloseGate"
    FORGET = "Forget"
    CANCEL = "Cancel"
    REQUEST_REFUND = "RequestRefund"
    SEND_REFUND = "SendRefund"
    CHECK_REFUND = "CheckRefund"
    RETRY_REFUND = "RetryRefund"
    LET_GO = "LetGo"
    WAIT = "Wait"


def plan(
    payment: Payment | None, gate: Gate | None, entry: PaymentEntry | None, *, is_unconfirmed: bool = False
) -> Action:
    """Decide the next step; `payment` is None where only the ledger is left of it.

    Args:
        is_unconfirmed: The provider was asked just now and has not acted on any confirm.
    """
    is_deleting = payment is not None and payment.is_deleting
    let_go = Action.LET_GO if is_deleting else Action.WAIT
    if gate is None or gate.state is GateState.SEALED:
        return let_go
    if gate.state is GateState.COMPENSATING:
        return undo(gate, entry) or let_go
    if is_deleting:
        return Action.CLOSE_GATE
    return Action.WAIT if payment is None else charge(entry, is_unconfirmed=is_unconfirmed)


def charge(entry: PaymentEntry | None, *, is_unconfirmed: bool) -> Action:
    """Create, then confirm; what was begun and not answered is looked at first."""
    if entry is None:
        return Action.INTEND
    if entry.state is not PaymentState.INTENDED:
        return Action.WAIT
    if entry.amount == 0:
        return Action.CAPTURE_NOTHING
    if entry.intent_id is None:
        return Action.CREATE
    return Action.CONFIRM if is_unconfirmed else Action.CHECK


def undo(gate: Gate, entry: PaymentEntry | None) -> Action | None:
    """Cancel what has not taken money, give back what has; None where there is nothing left to undo."""
    if entry is None or entry.state in (PaymentState.CANCELLED, PaymentState.REFUNDED):
        return None
    if entry.state in (PaymentState.INTENDED, PaymentState.DECLINED):
        return Action.FORGET if entry.intent_id is None else Action.CANCEL
    if not gate.is_shipment_settled:
        return Action.WAIT
    if not entry.refunds:
        return Action.REQUEST_REFUND
    match entry.refunds[-1].state:
        case RefundState.REQUESTED:
            return Action.SEND_REFUND
        case RefundState.PENDING:
            return Action.CHECK_REFUND
        case RefundState.FAILED:
            return Action.RETRY_REFUND
        case _:
            return Action.WAIT


def status_of(
    payment: Payment, entry: PaymentEntry | None, trouble: FailureState | None, now: datetime
) -> PaymentStatus:
    """The status as it should be."""
    generation = payment.metadata.generation
    facts = _facts(entry) if entry else []
    is_captured = entry is not None and entry.state in (PaymentState.CAPTURED, PaymentState.REFUNDED)
    return PaymentStatus(
        observed_generation=generation,
        phase=_phase(entry),
        reason=entry.reason if entry else None,
        conditions=child_conditions(
            payment.status.conditions,
            facts,
            "Refunded" if is_captured else "Captured",
            trouble,
            generation,
            now,
        ),
        intent_id=entry.intent_id if entry else None,
        captured=entry.captured if entry else 0,
        refunded=entry.refunded if entry else 0,
    )


def _phase(entry: PaymentEntry | None) -> PaymentPhase:
    if entry is None:
        return PaymentPhase.PENDING
    match entry.state:
        case PaymentState.INTENDED:
            return PaymentPhase.PENDING
        case PaymentState.CAPTURED:
            return PaymentPhase.REFUNDING if entry.refunds else PaymentPhase.CAPTURED
        case PaymentState.DECLINED:
            return PaymentPhase.DECLINED
        case PaymentState.CANCELLED:
            return PaymentPhase.DECLINED if entry.reason else PaymentPhase.CANCELLED
        case PaymentState.REFUNDED:
            return PaymentPhase.REFUNDED


def _facts(entry: PaymentEntry) -> list[Fact]:
    match entry.state:
        case PaymentState.INTENDED:
            return []
        case PaymentState.CAPTURED if entry.refunds and entry.refunds[-1].state is RefundState.FAILED:
            reason = entry.refunds[-1].reason or "the provider did not say why"
            return [
                Fact("Captured", "True", "PaymentCaptured", "The whole amount was taken."),
                Fact(
                    "Refunded", "False", "RefundFailed",
                    f"The refund failed: {reason}. Pay it back and run `orderplane resolve`, or "
                    "`orderplane retry` to try again.",
                ),
            ]  # fmt: skip
        case PaymentState.CAPTURED:
            return [Fact("Captured", "True", "PaymentCaptured", "The whole amount was taken.")]
        case PaymentState.REFUNDED:
            return [
                Fact("Captured", "True", "PaymentCaptured", "The whole amount was taken."),
                Fact("Refunded", "True", "Refunded", "The whole amount was given back."),
            ]
        case PaymentState.DECLINED | PaymentState.CANCELLED:
            reason = entry.reason or "PaymentCancelled"
            return [Fact("Captured", "False", reason, entry.message or "No money was taken.")]
