"""Deliveries: every event that an endpoint subscribes to has a row, and what is Delivered was taken."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta

from orderplane.audit.snapshot import EventRow, Snapshot, Violation
from orderplane.ledgers.webhook_endpoints import DeliveryState

DELIVERIES_KEEP = timedelta(days=29)
"""Deliveries are kept for 30 days after their end; near that, one may or may not be there."""


def every_subscribed_event_has_a_delivery(snapshot: Snapshot) -> Iterator[Violation]:
    """Each event since the subscription of an endpoint has its row there, whatever became of it."""
    rows = {
        (row["merchant"], row["endpoint_id"], row["event_id"]) for row in snapshot.tables["event_deliveries"]
    }
    events: dict[str, list[EventRow]] = defaultdict(list)
    for event in snapshot.tables["history"]:
        if snapshot.taken_at - event["at"] < DELIVERIES_KEEP:
            events[event["merchant"]].append(event)
    for endpoint in snapshot.tables["webhook_endpoints"]:
        merchant, id_, types = endpoint["merchant"], endpoint["id"], endpoint["event_types"]
        if endpoint["deleted_at"] is not None:
            continue
        for event in events[merchant]:
            is_wanted = event["at"] >= endpoint["subscribed_at"] and (not types or event["type"] in types)
            if is_wanted and (merchant, id_, event["event_id"]) not in rows:
                yield Violation(
                    "delivery-missing", str(event["event_id"]), f"{event['type']} has no delivery to {id_}"
                )


def deliveries_are_of_events(snapshot: Snapshot) -> Iterator[Violation]:
    """Each delivery is of an event of its merchant, or a test."""
    events = {(row["merchant"], row["event_id"]) for row in snapshot.tables["history"]}
    for row in snapshot.tables["event_deliveries"]:
        if not row["is_test"] and (row["merchant"], row["event_id"]) not in events:
            yield Violation(
                "delivery-unknown",
                str(row["event_id"]),
                f"goes to {row['endpoint_id']}, but is not in the history of {row['merchant']}",
            )


def what_is_delivered_was_taken(snapshot: Snapshot) -> Iterator[Violation]:
    """The log of each delivery that is Delivered has an attempt that was answered with 2xx."""
    for row in snapshot.tables["event_deliveries"]:
        if row["state"] == DeliveryState.DELIVERED and not row["was_taken"]:
            yield Violation(
                "delivery-unproved",
                str(row["event_id"]),
                f"Delivered to {row['endpoint_id']}, but no attempt was taken",
            )
