"""Refunds after the sale: what may be given back of an order that has left, and the port of their ledger.

A refund is asked for by name, once. Whether it is admitted is decided when it is asked for, behind the
order's row, and never again. Its money is a refund of the payment ledger, as that of a compensation.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from orderplane.crds.money import format_minor
from orderplane.crds.order import Item, Quote
from orderplane.crds.reasons import Reason
from orderplane.ledgers.payments import PaymentEntry, RefundEntry
from orderplane.ledgers.states import GOODS_LEFT, Outcome, TrackingStatus

MOST_REFUNDS = 32
"""Of one order. The status of the Order shows all of them."""


@dataclass(frozen=True, slots=True)
class NewRefund:
    """What is asked for.

    Args:
        name: Different for each refund of an order; the same name asks once.
        reason: One CamelCase word, the shop's own.
        amount: In minor units; None for all that is left.
        lines: The pieces that it is for, by SKU.
        is_restocked: Those pieces are on hand again; of a refund of all that is left, all that went out.
        step: Every amount that the payment provider can give back is a multiple of it.
        actor: Who asks, as in `crds.actors`; None where that is not known.
    """

    name: str
    reason: str
    amount: int | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    is_restocked: bool = False
    step: int = 1
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A refund that was asked for, and what became of it.

    Args:
        amount: What was asked for, in minor units.
        refusal: Why it was not admitted, with `message`; None where it was.
        refund: Its money; None where it was not admitted. Less than `amount` where money left the payment
            elsewhere before it was made.
    """

    name: str
    reason: str
    amount: int
    lines: Mapping[str, int]
    is_restocked: bool
    refusal: str | None
    message: str | None
    refund: RefundEntry | None
    created_at: datetime = field(compare=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a refund is admitted, and what it is for; `refusal` and `message` say why not."""

    amount: int
    lines: Mapping[str, int]
    refusal: Reason | None = None
    message: str | None = None


def new_refund(
    name: str,
    reason: str,
    quote: Quote,
    *,
    amount: int | None = None,
    lines: Sequence[Item] = (),
    is_restocked: bool = False,
    step: int = 1,
    actor: str | None = None,
) -> NewRefund:
    """What is asked for; pieces without an amount are worth their share of what the customer paid."""
    quantities: Counter[str] = Counter()
    for line in lines:
        quantities[line.sku] += line.quantity
    if amount is None and quantities:
        amount = share_of(quote, quantities, step)
    return NewRefund(name, reason, amount, dict(quantities), is_restocked, step, actor)


def share_of(quote: Quote, lines: Mapping[str, int], step: int = 1) -> int:
    """What pieces cost with their part of the tax, without shipping, rounded down to a multiple of `step`."""
    worth = sum(line.unit_amount * lines.get(line.sku, 0) for line in quote.lines)
    whole = quote.amounts.items + quote.amounts.shipping
    return quote.amounts.total * worth // whole // step * step if whole else 0


def decide(
    new: NewRefund,
    outcome: Outcome | None,
    payment: PaymentEntry | None,
    ordered: Mapping[str, int],
    before: Sequence[RefundRequest],
) -> Decision:
    """Whether a new refund is admitted.

    Args:
        ordered: The pieces that went out, by SKU.
        before: Every refund of the order that was asked for before.
    """
    admitted = [request for request in before if request.refusal is None]
    left = _left(ordered, admitted)
    if outcome not in GOODS_LEFT or payment is None:
        wrong = (
            Reason.NOT_SHIPPED,
            "Only an order that the carrier has can be refunded. One that has not left is cancelled, and one "
            "that was cancelled or has failed has its money back.",
        )
        return Decision(new.amount or 0, new.lines, *wrong)
    amount = payment.free if new.amount is None else new.amount
    lines = left if new.is_restocked and new.amount is None and not new.lines else new.lines
    beyond = sorted(sku for sku, quantity in lines.items() if quantity > left.get(sku, 0))
    if len(admitted) >= MOST_REFUNDS:
        why = Reason.TOO_MANY_REFUNDS, f"An order has at most {MOST_REFUNDS} refunds."
    elif beyond:
        why = (
            Reason.NOT_ORDERED,
            f"More pieces of {', '.join(beyond)} than the order has, or than are left of it.",
        )
    elif new.is_restocked and not lines:
        why = (
            Reason.LINES_MISSING,
            "Name the pieces that are on hand again; without an amount, all that are left of the order are.",
        )
    elif amount <= 0:
        why = Reason.NOTHING_TO_REFUND, "Nothing is left of this payment, or these pieces were free."
    elif amount % new.step:
        step = format_minor(new.step, payment.currency)
        why = Reason.NOT_COUNTED_SO, f"An amount in {payment.currency} has to be a multiple of {step}."
    elif amount > payment.free:
        asked, free = (format_minor(minor, payment.currency) for minor in (amount, payment.free))
        why = Reason.REFUND_TOO_LARGE, f"{asked} was asked for, and {free} is left of this payment."
    else:
        return Decision(amount, lines)
    return Decision(amount, lines, *why)


def is_return_settled(
    tracking: TrackingStatus,
    payment: PaymentEntry,
    ordered: Mapping[str, int],
    requests: Sequence[RefundRequest],
) -> bool:
    """Whether refunds have settled what becomes of a parcel that the carrier brings back: they are for all of
    its money, or for every piece."""
    admitted = [request for request in requests if request.refusal is None]
    is_all = not payment.free or not _left(ordered, admitted)
    return tracking is TrackingStatus.RETURNED and bool(admitted) and is_all


def _left(ordered: Mapping[str, int], admitted: Sequence[RefundRequest]) -> dict[str, int]:
    left = Counter(ordered)
    for request in admitted:
        left.subtract(request.lines)
    return {sku: quantity for sku, quantity in left.items() if quantity > 0}


class RefundLedger(Protocol):
    """Refunds after the sale. Each method is one transaction."""

    async def request(self, merchant: str, order_uid: str, new: NewRefund) -> RefundRequest:
        """Ask for a refund: with `refund.requested`, its money is to be given back and its pieces are on hand
        again. A repeat returns what became of the first.

        Raises:
            GateClosed: the order is not sealed.
        """
        ...

    async def of_order(self, merchant: str, order_uid: str) -> tuple[RefundRequest, ...]:
        """Every refund of an order that was asked for, oldest first."""
        ...

    async def unsettled(self, limit: int) -> Sequence[tuple[str, str]]:
        """Merchant and name of the Payments with a refund after the sale that is still to be made."""
        ...
