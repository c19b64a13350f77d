"""What a Payment needs next. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from orderplane.controllers.payment.ports import Dispute, Refund, Returns
from orderplane.controllers.steps import (
    CompensateOrder,
    DeleteLeftover,
    ReleaseFinalizer,
    SharedStep,
    Wait,
)
from orderplane.crds.payment import Payment
from orderplane.crds.reasons import Reason
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import PaymentEntry, RefundEntry
from orderplane.ledgers.states import GateState, PaymentState, RefundState

SAME_KEY_TRIES = 2
"""After so many failures the idempotency key may replay a stored error: another key is used."""

RECHECK_SECONDS = 60.0
"""How soon the provider is asked again whether somebody else has paid back what we could not."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Pin the stock, and write the entry."""

    payment: Payment


@dataclass(frozen=True, slots=True)
class CaptureNothing:
    """The order is free of charge: no provider is needed."""


@dataclass(frozen=True, slots=True)
class CreateIntent:
    """Create an intent at the provider, and confirm it.

    Args:
        is_key_spent: The entry's create key may replay a stored error: take the next one.
    """

    entry: PaymentEntry
    confirm_attempt: int
    is_key_spent: bool


@dataclass(frozen=True, slots=True)
class CheckIntent:
    """A confirm was begun and may have landed: ask the provider, and record the answer."""

    intent_id: str


@dataclass(frozen=True, slots=True)
class ConfirmIntent:
    """Take the money: the provider has not acted on any confirm before `attempt`."""

    intent_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelPayment:
    """No intent was created: no money can be taken any more."""


@dataclass(frozen=True, slots=True)
class CancelIntent:
    """Make sure at the provider that the intent cannot take money; it may turn out that it has."""

    intent_id: str


@dataclass(frozen=True, slots=True)
class RequestRefund:
    """Write down that all that was captured is to be refunded."""


@dataclass(frozen=True, slots=True)
class CheckReturns:
    """Ask the provider what has left the payment, and record what left it without us."""

    intent_id: str


@dataclass(frozen=True, slots=True)
class AwaitDispute:
    """Its bank has the customer's money until the dispute is decided: paying back now would be twice."""

    dispute: Dispute


@dataclass(frozen=True, slots=True)
class AwaitOtherRefund:
    """Somebody else made a refund which may still fail: what is left is known only after it."""

    found: Refund


@dataclass(frozen=True, slots=True)
class RecordRefund:
    """The provider has our refund: record it."""

    refund: RefundEntry
    found: Refund


@dataclass(frozen=True, slots=True)
class SendRefund:
    """Make the refund at the provider, which has none of it.

    Args:
        is_key_spent: As in `CreateIntent`.
    """

    intent_id: str
    refund: RefundEntry
    is_key_spent: bool


@dataclass(frozen=True, slots=True)
class CheckRefund:
    """Ask the provider how the refund stands, and record the answer."""

    refund: RefundEntry


@dataclass(frozen=True, slots=True)
class RetryRefunds:
    """The provider failed these refunds, and somebody asked to try them again."""

    refunds: tuple[RefundEntry, ...]


Effect = (
    Begin
    | CaptureNothing
    | CreateIntent
    | CheckIntent
    | ConfirmIntent
    | CancelPayment
    | CancelIntent
    | RequestRefund
    | CheckReturns
    | AwaitDispute
    | AwaitOtherRefund
    | RecordRefund
    | SendRefund
    | CheckRefund
    | RetryRefunds
)
Step = Effect | SharedStep


def plan(
    payment: Payment | None,
    gate: Gate | None,
    entry: PaymentEntry | None,
    *,
    operator: str,
    settle: timedelta,
    tries: int = 0,
    is_unconfirmed: bool = False,
    is_retry_requested: bool = False,
    returns: Returns | None = None,
) -> Step:
    """Decide the next step; `payment` is None where only the ledger is left of it.

    Args:
        operator: The one that plans.
        settle: How long a confirm may still take the money after it was begun.
        tries: How often in a row it has failed.
        is_unconfirmed: The provider was asked just now and has not acted on any confirm.
        is_retry_requested: Somebody asked to try a failed refund again, since it was last tried.
        returns: What the provider said, just now, has left the payment; None where it was not asked.
    """
    is_deleting = payment is not None and payment.is_deleting
    done: Step = ReleaseFinalizer() if is_deleting else Wait()
    if gate is None:
        return done
    if gate.state is GateState.SEALED:
        if gate.is_undone:
            return DeleteLeftover() if payment is not None and not is_deleting else done
        step = give_back(entry, tries, returns, is_retry_requested=is_retry_requested) if entry else None
        return step or done
    if gate.state is GateState.COMPENSATING:
        return compensate(gate, entry, tries, returns, is_retry_requested=is_retry_requested) or done
    if is_deleting:
        return done if gate.is_leaving else CompensateOrder()
    if payment is None:
        return Wait()
    return charge(
        payment,
        entry,
        operator=operator,
        settle=settle,
        is_key_spent=tries >= SAME_KEY_TRIES,
        is_unconfirmed=is_unconfirmed,
    )


def charge(
    payment: Payment,
    entry: PaymentEntry | None,
    *,
    operator: str,
    settle: timedelta,
    is_key_spent: bool,
    is_unconfirmed: bool,
) -> Step:
    """Create, then confirm; what was begun and not answered is checked first. What another operator has begun
    may be on its way still, and is waited for."""
    if entry is None:
        return Begin(payment)
    if entry.state is not PaymentState.INTENDED:
        return Wait()
    if entry.amount == 0:
        return CaptureNothing()
    attempt = entry.confirm_attempt + 1
    if entry.intent_id is None:
        return CreateIntent(entry, attempt, is_key_spent)
    if not is_unconfirmed:
        return CheckIntent(entry.intent_id)
    can_land = entry.confirm_age is not None and entry.confirm_age < settle
    if can_land and entry.confirm_begun_by != operator:
        message = "Another operator has begun to take the money, and its request may still be on its way."
        return Wait(settle.total_seconds() / 4, Reason.PAYMENT_PROCESSING, message)
    return ConfirmIntent(entry.intent_id, attempt)


def compensate(
    gate: Gate, entry: PaymentEntry | None, tries: int, returns: Returns | None, *, is_retry_requested: bool
) -> Step | None:
    """Cancel what has not taken money, refund what has; None where nothing is left to compensate."""
    if entry is None or entry.state in (PaymentState.CANCELLED, PaymentState.REFUNDED):
        return None
    if entry.state in (PaymentState.INTENDED, PaymentState.DECLINED):
        return CancelPayment() if entry.intent_id is None else CancelIntent(entry.intent_id)
    if not gate.is_shipment_settled:
        return Wait()
    if not entry.refunds:
        return RequestRefund()
    return give_back(entry, tries, returns, is_retry_requested=is_retry_requested)


def give_back(
    entry: PaymentEntry, tries: int, returns: Returns | None, *, is_retry_requested: bool
) -> Step | None:
    """Make the refunds of a payment, one after the other; None where all are settled.

    What has left the payment is looked at before any of them. One that failed waits for a person, who may
    also refund it at the provider; one that the provider works on keeps no other one waiting.
    """
    requested, pending, failed = (
        tuple(refund for refund in entry.refunds if refund.state is state)
        for state in (RefundState.REQUESTED, RefundState.PENDING, RefundState.FAILED)
    )
    wants_retry = bool(failed) and is_retry_requested
    if pending and not requested and not wants_retry:
        return CheckRefund(pending[tries % len(pending)])
    if not requested and not failed:
        return None
    if returns is None:
        return CheckReturns(entry.intent_id or "")
    for refund in (*requested, *failed):
        if (found := returns.refund_of(refund.id)) is not None:
            return RecordRefund(refund, found)
    if wants_retry:
        return RetryRefunds(failed)
    if not requested:
        return Wait(RECHECK_SECONDS)
    if (dispute := returns.open_dispute) is not None:
        return AwaitDispute(dispute)
    if (other := returns.pending({refund.id for refund in entry.refunds})) is not None:
        return AwaitOtherRefund(other)
    # A request whose client gave up may still land. Under another key it would be a second refund, unless
    # there is no room for two: a smaller one waits until the provider has forgotten the key, a day at most.
    is_safe = 2 * requested[0].amount > entry.left
    is_key_spent = is_safe and tries >= SAME_KEY_TRIES
    return SendRefund(entry.intent_id or "", requested[0], is_key_spent)
