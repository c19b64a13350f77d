"""What `orderplane audit` says of a simulated world: the same invariants, on the simulated tables."""

from dataclasses import replace
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from orderplane.audit import payments, refunds, resources, shipments, withdrawals
from orderplane.audit.snapshot import Snapshot, Tables, Violation
from orderplane.controllers.payment.ports import Refund
from orderplane.crds.meta import Kind
from orderplane.ledgers.states import GateState

from .run import NAMESPACE, World

INVARIANTS = (
    payments.orders_are_paid_exactly,
    payments.intents_match_the_ledger,
    payments.no_order_is_charged_twice,
    payments.refunds_match_the_ledger,
    refunds.no_more_goes_back_than_was_taken,
    refunds.refunds_were_asked_for,
    refunds.no_piece_comes_back_twice,
    refunds.every_refund_of_a_spec_is_answered,
    withdrawals.withdrawals_match_the_provider,
    withdrawals.withdrawals_are_in_the_ledger,
    withdrawals.no_payment_goes_back_twice,
    shipments.labels_match_the_ledger,
    shipments.orders_have_one_label,
    resources.children_have_their_order,
    resources.no_child_comes_after_the_end,
    resources.phases_show_the_outcome,
)


def violations(world: World) -> list[Violation]:
    """All that it names, in order."""
    snapshot = _snapshot(world)
    return sorted({violation for check in INVARIANTS for violation in check(snapshot)})


def _snapshot(world: World) -> Snapshot:
    tables = world.tables
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in Tables.__annotations__}
    rows["orders"] = [
        {
            "merchant": NAMESPACE, "uid": UUID(uid), "name": gate.name, "state": gate.state,
            "outcome": gate.outcome, "seq": 0, "currency": tables.totals[uid][1],
            "total": tables.totals[uid][0],
            "sealed_at": world.now() if gate.state is GateState.SEALED else None,
            "finished_at": gate.finished_at,
        }
        for uid, gate in tables.gates.items()
    ]  # fmt: skip
    rows["payments"] = [
        {
            "merchant": NAMESPACE, "order_uid": UUID(uid), "name": uid, "amount": entry.amount,
            "currency": entry.currency, "state": entry.state, "intent_id": entry.intent_id,
            "captured": entry.captured, "reason": entry.reason,
        }
        for uid, entry in tables.payments.items()
    ]  # fmt: skip
    rows["refunds"] = [
        {
            "id": _refund_id(refund.id), "order_uid": UUID(uid), "amount": refund.amount,
            "state": refund.state, "provider_id": refund.provider_id,
        }
        for uid, entry in tables.payments.items()
        for refund in entry.refunds
    ]  # fmt: skip
    rows["refund_requests"] = [
        {
            "merchant": NAMESPACE, "order_uid": UUID(uid), "name": request.name, "amount": request.amount,
            "lines": dict(request.lines), "is_restocked": request.is_restocked,
            "refund_id": _refund_id(request.refund.id) if request.refund else None,
        }
        for uid, requests in tables.requests.items()
        for request in requests
    ]  # fmt: skip
    rows["reservation_lines"] = [
        {"merchant": NAMESPACE, "holder": UUID(uid), "sku": sku, "quantity": quantity}
        for uid, lines in tables.lines.items()
        for sku, quantity in lines.items()
    ]
    rows["withdrawals"] = [
        {
            "id": _refund_id(withdrawal.provider_id), "order_uid": UUID(uid),
            "provider_id": withdrawal.provider_id, "kind": withdrawal.kind, "amount": withdrawal.amount,
        }
        for uid, entry in tables.payments.items()
        for withdrawal in entry.withdrawals
    ]  # fmt: skip
    rows["shipments"] = [
        {
            "merchant": NAMESPACE, "order_uid": UUID(uid), "name": uid, "state": parcel.state,
            "provider_id": parcel.provider_id, "void_state": parcel.void,
            "tracking_code": parcel.label.tracking_code if parcel.label else None,
            "is_shipped": uid in tables.shipped,
        }
        for uid, parcel in tables.shipments.items()
    ]  # fmt: skip
    made = [_with_id(refund) for refund in world.payment_provider.refunds_by_id.values()]
    return Snapshot(
        world.now(),
        rows,  # type: ignore[arg-type]
        {kind: world.api.listed(kind)[0] for kind in Kind},
        list(world.payment_provider.intents_by_id.values()),
        made,
        list(world.payment_provider.disputes_by_id.values()),
        list(world.carrier.by_id.values()),
    )


def _refund_id(reference: str) -> UUID:
    """The model names refunds in words; the audit reads the ids of rows."""
    return uuid5(NAMESPACE_OID, reference)


def _with_id(refund: Refund) -> Refund:
    return replace(refund, reference=str(_refund_id(refund.reference)))
