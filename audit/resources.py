"""Resources: every accepted order is somewhere, and nothing is left hanging."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.crds.meta import Kind

PATIENCE = timedelta(seconds=120)
"""How long a deletion may take without a word."""

_OURS = "orderplane.dev/"
_CHILDREN = (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)
_OUTCOME_PHASES = {"Shipped": {"Shipped", "Paid"}, "Delivered": {"Delivered"}, "Failed": {"Failed"},
                   "Cancelled": {"Cancelled"}}  # fmt: skip


def accepted_orders_exist(snapshot: Snapshot) -> Iterator[Violation]:
    """Every stored 202 has a live Order, or one that came to an end."""
    live = {_name(order) for order in snapshot.resources[Kind.ORDER]}
    ended = {(row["merchant"], row["name"]) for row in snapshot.tables["orders"] if row["outcome"]}
    for row in snapshot.tables["idempotency"]:
        key = row["merchant"], row["name"]
        if row["kind"] == Kind.ORDER and row["status"] == 202 and key not in live and key not in ended:
            yield Violation("accepted-lost", "/".join(key), "answered 202, but no Order and no outcome")


def gates_have_an_order_or_an_end(snapshot: Snapshot) -> Iterator[Violation]:
    """Every row of the gate has its live Order, or an outcome."""
    live = {order["metadata"]["uid"] for order in snapshot.resources[Kind.ORDER]}
    for row in snapshot.tables["orders"]:
        if row["outcome"] is None and str(row["uid"]) not in live:
            yield Violation(
                "gate-orphan", f"{row['merchant']}/{row['name']}", f"{row['state']}, but its Order is gone"
            )


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


def finalizers_say_why(snapshot: Snapshot) -> Iterator[Violation]:
    """What is being deleted for long has a condition that says what it waits for."""
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


def phases_tell_the_outcome(snapshot: Snapshot) -> Iterator[Violation]:
    """What people see of a finished order is how it ended."""
    phases = {
        order["metadata"]["uid"]: (order.get("status") or {}).get("phase", "Pending")
        for order in snapshot.resources[Kind.ORDER]
    }
    for row in snapshot.tables["orders"]:
        phase = phases.get(str(row["uid"]))
        allowed = _OUTCOME_PHASES.get(row["outcome"] or "")
        if phase is not None and allowed is not None and phase not in allowed:
            yield Violation(
                "phase-outcome", f"{row['merchant']}/{row['name']}", f"{row['outcome']}, but shown as {phase}"
            )


def _name(resource: Mapping[str, Any]) -> tuple[str, str]:
    return resource["metadata"]["namespace"], resource["metadata"]["name"]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
