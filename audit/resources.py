"""Resources: every accepted order exists or has ended, and no resource is left behind."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.crds.meta import Kind
from orderplane.crds.order import OrderPhase
from orderplane.ledgers.states import GOODS_LEFT, Outcome

PATIENCE = timedelta(seconds=120)
"""How long a deletion may take without a condition that says what it waits for."""

_OURS = "orderplane.dev/"
_CHILDREN = (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)
_OUTCOME_PHASES = {
    # The status follows the seal after a moment.
    Outcome.SHIPPED: {OrderPhase.SHIPPED, OrderPhase.PAID, OrderPhase.RETURNED},
    Outcome.DELIVERED: {OrderPhase.DELIVERED},
    Outcome.FAILED: {OrderPhase.FAILED},
    Outcome.CANCELLED: {OrderPhase.CANCELLED},
}


def accepted_orders_exist(snapshot: Snapshot) -> Iterator[Violation]:
    """Every stored 202 has a live Order, or one that has ended."""
    live = {_name(order) for order in snapshot.resources[Kind.ORDER]}
    ended = {(row["merchant"], row["name"]) for row in snapshot.tables["orders"] if row["outcome"]}
    for key in snapshot.tables["idempotency"]:
        name = key["merchant"], key["name"] or ""
        if key["kind"] == Kind.ORDER and key["status"] == 202 and name not in live and name not in ended:
            yield Violation("accepted-lost", "/".join(name), "answered 202, but no Order and no outcome")


def gates_have_an_order_or_an_end(snapshot: Snapshot) -> Iterator[Violation]:
    """Every order in the ledger has its live Order resource, has left for the archive, or has an outcome."""
    live = {order["metadata"]["uid"] for order in snapshot.resources[Kind.ORDER]}
    for order in snapshot.tables["orders"]:
        if order["outcome"] is None and not order["is_archived"] and str(order["uid"]) not in live:
            yield Violation(
                "gate-orphan",
                f"{order['merchant']}/{order['name']}",
                f"{order['state']}, but its Order is gone",
            )


def absent_orders_are_archived(snapshot: Snapshot) -> Iterator[Violation]:
    """An order that is not in the API server any more was archived before it went."""
    live = {order["metadata"]["uid"] for order in snapshot.resources[Kind.ORDER]}
    for order in snapshot.tables["orders"]:
        is_lost = order["outcome"] is not None and order["is_archive_due"] and not order["is_archived"]
        if is_lost and str(order["uid"]) not in live:
            name = f"{order['merchant']}/{order['name']}"
            yield Violation("archive-missing", name, f"{order['outcome']}, but neither live nor archived")
    for row in snapshot.tables["archived_orders"]:
        if row["phase"] is None and str(row["uid"]) not in live:
            name = f"{row['merchant']}/{row['name']}"
            yield Violation("archive-missing", name, "noted as archived, but the archive does not have it")


def archived_phases_show_the_outcome(snapshot: Snapshot) -> Iterator[Violation]:
    """The phase of an order that has left is its outcome, and nothing waits to be written into its row."""
    live = {order["metadata"]["uid"] for order in snapshot.resources[Kind.ORDER]}
    for row in snapshot.tables["archived_orders"]:
        if row["phase"] is None or str(row["uid"]) in live:
            continue
        name = f"{row['merchant']}/{row['name']}"
        if row["is_outdated"]:
            yield Violation("archive-outdated", name, "its ledgers have moved since its row was written")
        elif row["outcome"] is not None and row["phase"] not in _OUTCOME_PHASES[Outcome(row["outcome"])]:
            yield Violation("archive-phase", name, f"{row['outcome']}, but archived as {row['phase']}")


def children_have_their_order(snapshot: Snapshot) -> Iterator[Violation]:
    """No child outlives the Order that it names."""
    live = {order["metadata"]["uid"] for order in snapshot.resources[Kind.ORDER]}
    for kind in _CHILDREN:
        for child in snapshot.resources[kind]:
            reference = child["spec"].get("orderRef")
            if reference and reference["uid"] not in live:
                yield Violation(
                    "child-orphan", f"{kind} {'/'.join(_name(child))}", f"order {reference['name']} is gone"
                )


def no_child_comes_after_the_end(snapshot: Snapshot) -> Iterator[Violation]:
    """An order that was undone has no children: one was made on an old plan, or its deletion is stuck."""
    undone = {
        str(row["uid"]): row["outcome"]
        for row in snapshot.tables["orders"]
        if row["outcome"] is not None and row["outcome"] not in GOODS_LEFT
    }
    for kind in _CHILDREN:
        for child in snapshot.resources[kind]:
            reference = child["spec"].get("orderRef")
            if reference and reference["uid"] in undone:
                yield Violation(
                    "child-after-seal",
                    f"{kind} {'/'.join(_name(child))}",
                    f"order {reference['name']} has ended as {undone[reference['uid']]}",
                )


def finalizers_say_why(snapshot: Snapshot) -> Iterator[Violation]:
    """A resource that has been deleted for long has a condition that says what it waits for."""
    for kind in Kind:
        for resource in snapshot.resources[kind]:
            metadata = resource["metadata"]
            since = metadata.get("deletionTimestamp")
            ours = [name for name in metadata.get("finalizers", ()) if name.startswith(_OURS)]
            if not since or not ours or snapshot.taken_at - _time(since) < PATIENCE:
                continue
            conditions = (resource.get("status") or {}).get("conditions", ())
            if not any(c["status"] == "False" and c["reason"] for c in conditions):
                yield Violation(
                    "finalizer-silent",
                    f"{kind} {'/'.join(_name(resource))}",
                    f"deleted at {since}, still held by {', '.join(ours)}, no condition says why",
                )


def phases_show_the_outcome(snapshot: Snapshot) -> Iterator[Violation]:
    """The phase of an order that has ended is its outcome."""
    phases = {
        order["metadata"]["uid"]: (order.get("status") or {}).get("phase", "Pending")
        for order in snapshot.resources[Kind.ORDER]
    }
    for order in snapshot.tables["orders"]:
        phase = phases.get(str(order["uid"]))
        if order["outcome"] is None or phase is None:
            continue
        if phase not in _OUTCOME_PHASES[Outcome(order["outcome"])]:
            yield Violation(
                "phase-outcome",
                f"{order['merchant']}/{order['name']}",
                f"{order['outcome']}, but shown as {phase}",
            )


def _name(resource: Mapping[str, Any]) -> tuple[str, str]:
    return resource["metadata"]["namespace"], resource["metadata"]["name"]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
