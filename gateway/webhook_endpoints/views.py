"""Webhook endpoints and their deliveries as this API shows them.

OpenAPI documents the types; the functions fill them.
"""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.events.standard_webhooks import CONTENT_TYPE
from orderplane.gateway.http.documentation import Actor, Count, Next, Time, closed
from orderplane.ledgers.webhook_endpoints import (
    DeliveryAttempt,
    DeliveryState,
    EventDelivery,
    WebhookEndpoint,
)

_EVENT_ID = "0c0d4e0e-8a1e-5a52-9d9f-1f3a0b0c2d4e"
_MaybeTime = Annotated[
    str | None,
    Field(description="RFC 3339, UTC.", examples=[None], json_schema_extra={"format": "date-time"}),
]
_Type = Annotated[
    str, Field(description="Of the event; `endpoint.test` for a test.", examples=["order.shipped"])
]
_Failure = Annotated[
    str | None,
    Field(
        description="Why it failed or was parked, such as `HttpError`, `TimedOut`, `NotConnected`, "
        "`Redirected`, `AddressRefused`, `GivenUp`, `EndpointDisabled`.",
        examples=[None],
    ),
]


class WebhookEndpointView(TypedDict):
    """Where a merchant's systems are told of events."""

    id: Annotated[str, Field(examples=["we-4f7kq2m3pl5v8r4t"])]
    url: Annotated[str, Field(examples=["https://erp.example.com/orderplane"])]
    description: Annotated[str, Field(examples=["our ERP"])]
    eventTypes: Annotated[
        list[str], Field(description="Empty: all.", examples=[["order.shipped", "order.delivered"]])
    ]
    enabled: Annotated[bool, Field(examples=[True])]
    disabledReason: Annotated[
        str | None,
        Field(
            description="ByShop; Failing: nothing was taken for days; Gone: it answered 410. Null while it "
            "is enabled.",
            examples=[None],
        ),
    ]
    disabledAt: _MaybeTime
    failingSince: Annotated[
        str | None,
        Field(
            description="The first failure since the last success.",
            examples=[None],
            json_schema_extra={"format": "date-time"},
        ),
    ]
    previousSecretUntil: Annotated[
        str | None,
        Field(
            description="Until then requests are signed by the secret before, too.",
            examples=[None],
            json_schema_extra={"format": "date-time"},
        ),
    ]
    actor: Actor
    createdAt: Time
    updatedAt: Time


class WebhookEndpointListView(TypedDict):
    """All endpoints of the merchant, the oldest first."""

    items: list[WebhookEndpointView]


class EndpointSecretView(TypedDict):
    """The secret by which requests to an endpoint are signed."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="])]
    previousSecretUntil: _MaybeTime


class DeliveryView(TypedDict):
    """One event for one endpoint."""

    eventId: Annotated[
        str,
        Field(description="The header `webhook-id`, and `id` of the event.", examples=[_EVENT_ID]),
    ]
    type: _Type
    subject: Annotated[
        str | None,
        Field(
            description="The id of the order or of the reservation; null for a test.",
            examples=["o-mfrggzdfmztwq2lknnwg23tpoa"],
        ),
    ]
    sequence: Annotated[
        int | None,
        Field(description="1, 2, 3... for the events of one order; null for a test.", examples=[4]),
    ]
    state: Annotated[
        str,
        Field(
            description="Waiting for its next attempt; Delivered: answered with 2xx; Parked: given up.",
            examples=["Delivered"],
            json_schema_extra=closed("DeliveryState", DeliveryState),
        ),
    ]
    reason: _Failure
    attempts: Annotated[Count, Field(description="How many were begun.")]
    createdAt: Time
    nextAttemptAt: _MaybeTime
    endedAt: _MaybeTime


class DeliveryListView(TypedDict):
    """A page of deliveries, those of the newest events first. They are kept for 30 days."""

    items: list[DeliveryView]
    next: Next


class DeliveryAttemptView(TypedDict):
    """One request and its answer."""

    attempt: Annotated[int, Field(examples=[1])]
    at: Time
    url: Annotated[str, Field(examples=["https://erp.example.com/orderplane"])]
    status: Annotated[
        int | None, Field(description="Of the answer; null if none came in time.", examples=[204])
    ]
    reason: _Failure
    latencyMilliseconds: Annotated[int, Field(examples=[87])]
    answer: Annotated[str, Field(description="The first 2 kB.", examples=["ok"])]


class DeliveryRequestView(TypedDict):
    """What is sent, without the headers that change with each attempt."""

    contentType: Annotated[str, Field(examples=[CONTENT_TYPE])]
    body: Annotated[str, Field(description="A CloudEvent as JSON.", examples=['{"specversion":"1.0"}'])]


class DeliveryLogView(DeliveryView):
    """One delivery with its request and its attempts, the newest first."""

    request: DeliveryRequestView
    log: list[DeliveryAttemptView]


class ReplayView(TypedDict):
    """How many deliveries are sent again."""

    replayed: Annotated[
        int,
        Field(
            description="10,000 at most, the oldest of the range: then send the request again, with another "
            "key.",
            examples=[12],
        ),
    ]


def endpoint_view(endpoint: WebhookEndpoint) -> WebhookEndpointView:
    """One endpoint, without its secret."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "description": endpoint.description,
        "eventTypes": list(endpoint.event_types),
        "enabled": endpoint.disabled_at is None,
        "disabledReason": endpoint.disabled_reason,
        "disabledAt": maybe_time(endpoint.disabled_at),
        "failingSince": maybe_time(endpoint.failing_since),
        "previousSecretUntil": maybe_time(endpoint.previous_secret_until),
        "actor": endpoint.actor,
        "createdAt": _time(endpoint.created_at),
        "updatedAt": _time(endpoint.updated_at),
    }


def delivery_view(delivery: EventDelivery) -> DeliveryView:
    """One delivery in a list."""
    return {
        "eventId": str(delivery.event_id),
        "type": delivery.type,
        "subject": delivery.subject,
        "sequence": delivery.sequence,
        "state": delivery.state,
        "reason": delivery.reason,
        "attempts": delivery.attempts,
        "createdAt": _time(delivery.created_at),
        "nextAttemptAt": _time(delivery.due_at) if delivery.state is DeliveryState.WAITING else None,
        "endedAt": maybe_time(delivery.ended_at),
    }


def delivery_log_view(delivery: EventDelivery) -> DeliveryLogView:
    """One delivery with all that is known of it."""
    return {
        **delivery_view(delivery),
        "request": {"contentType": CONTENT_TYPE, "body": delivery.body.decode()},
        "log": [_attempt_view(attempt) for attempt in delivery.log],
    }


def _attempt_view(attempt: DeliveryAttempt) -> DeliveryAttemptView:
    return {
        "attempt": attempt.attempt,
        "at": _time(attempt.at),
        "url": attempt.url,
        "status": attempt.status,
        "reason": attempt.reason,
        "latencyMilliseconds": round(attempt.latency_seconds * 1000),
        "answer": attempt.answer,
    }


def maybe_time(at: datetime | None) -> str | None:
    """RFC 3339, or nothing."""
    return None if at is None else _time(at)


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
