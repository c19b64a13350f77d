"""Refunds after the sale: each was asked for once, and no more goes back than came in."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from uuid import UUID

from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.crds.meta import Kind
from orderplane.ledgers.states import RefundState


def no_more_goes_back_than_was_taken(snapshot: Snapshot) -> Iterator[Violation]:
    """All refunds of a payment, with what was withdrawn of it, are no more than it has captured."""
    back: dict[UUID, int] = defaultdict(int)
    for refund in snapshot.tables["refunds"]:
        if refund["state"] != RefundState.NOT_NEEDED:
            back[refund["order_uid"]] += refund["amount"]
    for withdrawal in snapshot.tables["withdrawals"]:
        back[withdrawal["order_uid"]] += withdrawal["amount"]
    for payment in snapshot.tables["payments"]:
        if back[payment["order_uid"]] > payment["captured"]:
            yield Violation(
                "refunded-too-much",
                f"{payment['merchant']}/{payment['name']}",
                f"{payment['captured']} captured, {back[payment['order_uid']]} to be given back or withdrawn",
            )


def refunds_were_asked_for(snapshot: Snapshot) -> Iterator[Violation]:
    """Each refund of a sold order has its request, and only sold orders have requests that were admitted."""
    sold = snapshot.sold()
    refunds = {row["id"]: row for row in snapshot.tables["refunds"]}
    asked = set()
    for request in snapshot.tables["refund_requests"]:
        subject = f"{request['merchant']}/{request['order_uid']}/{request['name']}"
        refund = refunds.get(request["refund_id"]) if request["refund_id"] else None
        if refund is None:
            continue
        asked.add(refund["id"])
        if request["order_uid"] not in sold or refund["order_uid"] != request["order_uid"]:
            yield Violation("refund-order", subject, "refund of another order, or of one that was not sold")
        if refund["amount"] > request["amount"]:
            yield Violation(
                "refund-asked",
                subject,
                f"{refund['amount']} refunded, {request['amount']} asked for",
            )
    for id_, refund in refunds.items():
        if refund["order_uid"] in sold and id_ not in asked:
            yield Violation("refund-asked", str(id_), "of a sold order, and nobody has asked for it")


def no_piece_comes_back_twice(snapshot: Snapshot) -> Iterator[Violation]:
    """The pieces that the refunds of an order are for are no more than it has."""
    ordered = {
        (line["holder"], line["sku"]): line["quantity"] for line in snapshot.tables["reservation_lines"]
    }
    refunded: Counter[tuple[UUID, str]] = Counter()
    for request in snapshot.tables["refund_requests"]:
        if request["refund_id"] is not None:
            refunded.update({(request["order_uid"], sku): n for sku, n in request["lines"].items()})
    for (order, sku), quantity in refunded.items():
        most = ordered.get((order, sku), 0)
        if quantity > most:
            yield Violation("refunded-pieces", f"{order}/{sku}", f"{quantity} refunded of {most}")


def every_refund_of_a_spec_is_answered(snapshot: Snapshot) -> Iterator[Violation]:
    """What an Order asks for in spec.refunds was admitted or refused once the order has ended."""
    ended = {str(row["uid"]) for row in snapshot.tables["orders"] if row["outcome"] is not None}
    known = {(str(row["order_uid"]), row["name"]) for row in snapshot.tables["refund_requests"]}
    for order in snapshot.resources[Kind.ORDER]:
        metadata = order["metadata"]
        for wanted in order["spec"].get("refunds", ()):
            if metadata["uid"] in ended and (metadata["uid"], wanted["name"]) not in known:
                yield Violation(
                    "refund-unanswered", f"{metadata['namespace']}/{metadata['name']}", wanted["name"]
                )
