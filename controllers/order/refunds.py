"""What an Order shows of its refunds after the sale, and which Kubernetes Events they are worth. Pure."""

from collections.abc import Mapping, Sequence
from typing import Literal

from orderplane.controllers.engine.cluster import KubernetesEvent
from orderplane.crds.money import format_minor
from orderplane.crds.order import RefundInfo, RefundPhase, RefundSpec
from orderplane.crds.reasons import Reason
from orderplane.ledgers.payments import RefundEntry
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import RefundState

_PHASES = {
    RefundState.REQUESTED: (RefundPhase.REQUESTED, "{amount} is to be given back."),
    RefundState.PENDING: (RefundPhase.PENDING, "The payment provider is giving {amount} back."),
    RefundState.SUCCEEDED: (RefundPhase.REFUNDED, "{amount} was given back."),
    RefundState.SETTLED_BY_HAND: (RefundPhase.REFUNDED, "{amount} was paid back by hand."),
    RefundState.FAILED: (RefundPhase.FAILED, "The payment provider does not give {amount} back: {reason}."),
    RefundState.NOT_NEEDED: (RefundPhase.NOT_NEEDED, "The money had left the payment before."),
}

_NEWS: Mapping[RefundPhase, tuple[Literal["Normal", "Warning"], Reason]] = {
    RefundPhase.REFUNDED: ("Normal", Reason.REFUND_MADE),
    RefundPhase.REFUSED: ("Warning", Reason.REFUND_REFUSED),
}
"""The phases that are told by an Event, once. A refund that fails stalls the order, which is told so."""


def refunds_of(
    currency: str, wanted: Sequence[RefundSpec], requests: Sequence[RefundRequest]
) -> tuple[RefundInfo, ...]:
    """Every refund that the ledger has decided on, then those of the spec that it has not."""
    known = {request.name for request in requests}
    waiting = tuple(
        RefundInfo(
            name=refund.name,
            phase=RefundPhase.WAITING,
            amount=refund.amount,
            message="It is made once the carrier has the order.",
        )
        for refund in wanted
        if refund.name not in known
    )
    return (*(refund_info(request, currency) for request in requests), *waiting)


def refund_info(request: RefundRequest, currency: str) -> RefundInfo:
    """What is shown of a refund that the ledger has decided on."""
    if request.refund is None:
        return RefundInfo(
            name=request.name,
            phase=RefundPhase.REFUSED,
            amount=request.amount,
            reason=request.refusal,
            message=request.message,
        )
    refund = request.refund
    phase, message = _PHASES[refund.state]
    return RefundInfo(
        name=request.name,
        phase=phase,
        amount=refund.amount,
        message=message.format(amount=format_minor(refund.amount, currency), reason=_why(refund))[:256],
        reference=refund.provider_id,
    )


def is_told(refund: RefundInfo) -> bool:
    """Whether an Event tells of it."""
    return refund.phase in _NEWS


def event_about(refund: RefundInfo) -> KubernetesEvent:
    """The Event of a refund that is told."""
    type_, reason = _NEWS[refund.phase]
    return KubernetesEvent(type_, reason, f"Refund {refund.name}: {refund.message}")


def _why(refund: RefundEntry) -> str:
    return (refund.reason or "it does not say why").removesuffix(".")
