"""The history of an order as this API shows it. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.crds.documents import OrderDocument
from orderplane.crds.order import Compensation, OrderPhase
from orderplane.events.types import EventType
from orderplane.gateway.http.documentation import Actor, Phase
from orderplane.gateway.orders.views import CompensationView, Id, Uid
from orderplane.ledgers.postgres.history import Timeline

Timestamp = Annotated[
    str,
    Field(
        description="RFC 3339, UTC.",
        examples=["2026-01-31T12:00:00.123456Z"],
        json_schema_extra={"format": "date-time"},
    ),
]


class PhaseView(TypedDict):
    """A phase, and when the order first reached it."""

    phase: Annotated[Phase, Field(examples=["Paid"])]
    at: Timestamp


class EventView(TypedDict):
    """One event, as it is also published in the Kafka topic of that name."""

    sequence: Annotated[int, Field(description="1, 2, 3... without a gap.", examples=[3])]
    type: Annotated[str, Field(examples=["payment.success"])]
    at: Timestamp
    reason: Annotated[
        str | None, Field(description="The reason, if there is one.", examples=["CardDeclined"])
    ]
    actor: Annotated[Actor, Field(description="Who asked for it. Customers see themselves only.")]


class ReferencesView(TypedDict):
    """The ids of the order at the providers; null or empty as long as there are none."""

    payment: Annotated[
        str | None,
        Field(description="The payment provider's intent. Null for customers.", examples=["pi_3Pk0pD"]),
    ]
    refunds: Annotated[
        list[str],
        Field(
            description="The payment provider's refunds, oldest first: what a bank can trace. Of a refund "
            "that a person paid by hand, the reference that they gave (`orderplane resolve`).",
            examples=[["re_3Pk0pD"]],
        ),
    ]
    shipment: Annotated[
        str | None, Field(description="The carrier's shipment. Null for customers.", examples=["shp_57d1c9"])
    ]
    carrier: Annotated[str | None, Field(examples=["SandboxPost"])]
    trackingCode: Annotated[str | None, Field(examples=["SBX3554B13B0DA9746FE070"])]


class TimelineView(TypedDict):
    """The history of one order. It contains reasons and ids, but no address, name or message."""

    id: Id
    uid: Uid
    phases: Annotated[list[PhaseView], Field(description="Oldest first.")]
    events: Annotated[list[EventView], Field(description="By `sequence`.")]
    compensation: Annotated[list[CompensationView], Field(description="The compensation, oldest first.")]
    references: ReferencesView


_PHASE_OF = {
    EventType.INVENTORY_RESERVED: OrderPhase.RESERVED,
    EventType.PAYMENT_SUCCESS: OrderPhase.PAID,
    EventType.ORDER_SHIPPED: OrderPhase.SHIPPED,
    EventType.ORDER_DELIVERED: OrderPhase.DELIVERED,
    EventType.ORDER_RETURNED: OrderPhase.RETURNED,
    EventType.ORDER_FAILED: OrderPhase.FAILED,
    EventType.ORDER_CANCELLED: OrderPhase.CANCELLED,
}


def timeline_view(
    order: OrderDocument,
    timeline: Timeline | None,
    compensation: Sequence[Compensation],
    *,
    own_actor: str | None,
) -> TimelineView:
    """The history of an Order resource, from the ledgers.

    Args:
        own_actor: Of a customer, as in `crds.actors`. They see the ids that a bank or the carrier can look
            up, but not those that only the shop can use with its providers, nor who in the shop did what.
    """
    is_customer = own_actor is not None
    metadata = order["metadata"]
    placed_at = datetime.fromisoformat(metadata["creationTimestamp"])
    return {
        "id": metadata["name"],
        "uid": metadata["uid"],
        "phases": [
            {"phase": phase.value, "at": timestamp(at)} for phase, at in phases_of(timeline, placed_at)
        ],
        "events": [
            {
                "sequence": event.seq,
                "type": event.type.value,
                "at": timestamp(event.at),
                "reason": event.reason,
                "actor": event.actor if own_actor in (None, event.actor) else None,
            }
            for event in (timeline.events if timeline else ())
        ],
        "compensation": [
            {"step": step.step.value, "reference": step.reference, "at": timestamp(step.at)}
            for step in compensation
        ],
        "references": {
            "payment": timeline.intent_id if timeline and not is_customer else None,
            "refunds": list(timeline.refund_ids) if timeline else [],
            "shipment": timeline.shipment_id if timeline and not is_customer else None,
            "carrier": timeline.carrier if timeline else None,
            "trackingCode": timeline.tracking_code if timeline else None,
        },
    }


def phases_of(timeline: Timeline | None, placed_at: datetime) -> list[tuple[OrderPhase, datetime]]:
    """Every phase that the order reached, and when."""
    phases = [(OrderPhase.PENDING, placed_at)]
    if timeline is None:
        return phases
    phases += [(_PHASE_OF[event.type], event.at) for event in timeline.events if event.type in _PHASE_OF]
    if timeline.compensating_at is not None:
        phases.append((OrderPhase.COMPENSATING, timeline.compensating_at))
    # creationTimestamp has whole seconds and may lie after the first event; Pending is first all the same.
    return phases[:1] + sorted(phases[1:], key=lambda phase: phase[1])


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
