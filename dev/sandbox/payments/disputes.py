"""The rules of disputes. Pure: the time is an argument.

A dispute takes the disputed money from the account until it is decided; an inquiry takes nothing. Sources:
https://docs.stripe.com/disputes/how-disputes-work, https://docs.stripe.com/api/disputes/object and, for the
evidence that decides a test dispute, https://docs.stripe.com/testing#evidence
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from orderplane.dev.sandbox.payments.intents import Intent, Status, WrongState, as_of


class DisputeStatus(StrEnum):
    """https://docs.stripe.com/api/disputes/object#dispute_object-status"""

    WARNING_NEEDS_RESPONSE = "warning_needs_response"
    WARNING_CLOSED = "warning_closed"
    NEEDS_RESPONSE = "needs_response"
    UNDER_REVIEW = "under_review"
    WON = "won"
    LOST = "lost"


OPEN = frozenset({DisputeStatus.NEEDS_RESPONSE, DisputeStatus.UNDER_REVIEW})
TAKEN = OPEN | {DisputeStatus.LOST}
"""The disputed money is not in the account, and the charge cannot be refunded."""

_EVIDENCE = {"winning_evidence": DisputeStatus.WON, "losing_evidence": DisputeStatus.LOST}


@dataclass(frozen=True, slots=True)
class Dispute:
    """One dispute of a charge."""

    id: str
    intent: str
    amount: int
    currency: str
    created: int
    status: DisputeStatus


def open_dispute(id_: str, intent: Intent, amount: int | None, status: DisputeStatus, now: float) -> Dispute:
    """What the customer's bank does; `amount` is all of the charge if it is None.

    Raises:
        WrongState: it was not charged.
    """
    if as_of(intent, now).status is not Status.SUCCEEDED:
        raise WrongState(f"PaymentIntent {intent.id} does not have a successful charge to dispute.")
    return Dispute(id_, intent.id, amount or intent.amount, intent.currency, int(now), status)


def answer(dispute: Dispute, evidence: str | None) -> Dispute:
    """Submit evidence; two texts decide the dispute at once.

    Raises:
        WrongState: it is decided already.
    """
    _require_open(dispute)
    if dispute.status is DisputeStatus.WARNING_NEEDS_RESPONSE:
        return replace(dispute, status=DisputeStatus.WARNING_CLOSED)
    return replace(dispute, status=_EVIDENCE.get(evidence or "", DisputeStatus.UNDER_REVIEW))


def close(dispute: Dispute) -> Dispute:
    """Accept the dispute: it is lost.

    Raises:
        WrongState: it is decided already.
    """
    _require_open(dispute)
    return replace(dispute, status=DisputeStatus.LOST)


def is_charged_back(disputes: Iterable[Dispute]) -> bool:
    """Whether a charge with these disputes cannot be refunded."""
    return any(dispute.status in TAKEN for dispute in disputes)


def read_dispute(row: dict[str, object]) -> Dispute:
    """From the store."""
    return Dispute(**{**row, "status": DisputeStatus(str(row["status"]))})  # type: ignore[arg-type]


def _require_open(dispute: Dispute) -> None:
    if dispute.status not in OPEN | {DisputeStatus.WARNING_NEEDS_RESPONSE}:
        raise WrongState(f"This dispute is already closed: its status is {dispute.status}.")
