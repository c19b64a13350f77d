"""Reservations that stand alone: the ledger, the cluster and the answers that clients got agree."""

from collections.abc import Iterator

from orderplane.audit.snapshot import Row, Snapshot, Violation
from orderplane.crds.meta import Kind


def reservations_are_as_answered(snapshot: Snapshot) -> Iterator[Violation]:
    """A stored 201 stands for stock that was kept, a stored 409 for stock that was not there."""
    by_name = {(row["merchant"], row["name"]): row["state"] for row in _alone(snapshot)}
    for row in snapshot.tables["idempotency"]:
        if row["kind"] != Kind.RESERVATION or row["status"] not in (201, 409):
            continue
        state = by_name.get((row["merchant"], row["name"]))
        if state is None or (state == "Rejected") != (row["status"] == 409):
            yield Violation(
                "reservation-answer",
                f"{row['merchant']}/{row['name']}",
                f"answered {row['status']}, but it is {state or 'not in the ledger'}",
            )


def holds_have_their_reservation(snapshot: Snapshot) -> Iterator[Violation]:
    """What is kept for no order has the live Reservation by which somebody can give it back."""
    live = {reservation["metadata"]["uid"] for reservation in snapshot.resources[Kind.RESERVATION]}
    for row in _alone(snapshot):
        if row["state"] == "Held" and str(row["holder"]) not in live:
            yield Violation(
                "hold-orphan", f"{row['merchant']}/{row['name']}", "Held, but its Reservation is gone"
            )


def reservations_show_the_ledger(snapshot: Snapshot) -> Iterator[Violation]:
    """What people see of a Reservation is what the ledger says of it, and nothing where it says nothing."""
    states = {str(row["holder"]): row["state"] for row in _alone(snapshot)}
    for reservation in snapshot.resources[Kind.RESERVATION]:
        if reservation["spec"].get("orderRef"):
            continue
        metadata = reservation["metadata"]
        shown = (reservation.get("status") or {}).get("phase", "Pending")
        state = states.get(metadata["uid"], "Pending")
        if shown != state:
            yield Violation(
                "reservation-phase",
                f"{metadata['namespace']}/{metadata['name']}",
                f"{state} in the ledger, but shown as {shown}",
            )


def _alone(snapshot: Snapshot) -> Iterator[Row]:
    return (row for row in snapshot.tables["reservations"] if row["order_uid"] is None)
