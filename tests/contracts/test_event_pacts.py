"""Message pacts: what a consumer of the topics relies on, checked against the events of the real ledgers."""

import base64
import json
from typing import Any

import pytest
from aiohttp import web
from pact import Pact, Verifier, match

from orderplane.dev.localplane.plane import Plane
from orderplane.events.envelope import to_record
from orderplane.events.types import EventType

from ..events.ledgers import open_ledgers
from .pacts import FOLDER, TOPICS, keep, kept, listening

CONSUMER = "event-consumer"
UUID = "6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11"

ORDER = {"merchant": "demo", "order": {"name": "o-1", "uid": UUID}}
RESERVATION = {"merchant": "demo", "reservation": {"name": "o-1-stock", "uid": UUID}}
ITEMS = match.each_like({"sku": "TEA", "quantity": 2}, min=1)
WHY = {"reason": "CardDeclined", "message": "The card was declined."}
MONEY = {"amount": 1790, "currency": "EUR"}

WANTED: dict[EventType, dict[str, Any]] = {
    EventType.ORDER_CREATED: {**ORDER, "customer": "c-1", "items": ITEMS, "total": 1790, "currency": "EUR"},
    EventType.INVENTORY_RESERVED: {**RESERVATION, "items": ITEMS, "expiresAt": "2026-03-01T12:15:00Z"},
    EventType.INVENTORY_RELEASED: {**RESERVATION, "items": ITEMS, "reason": "Released"},
    EventType.PAYMENT_SUCCESS: {**ORDER, **MONEY, "intentId": "pi_1"},
    EventType.PAYMENT_FAILED: {**ORDER, **WHY},
    EventType.PAYMENT_CANCELLED: ORDER,
    EventType.PAYMENT_REFUNDED: {**ORDER, **MONEY, "refundId": UUID, "settledByHand": False},
    EventType.PAYMENT_WITHDRAWN: {
        **ORDER, **MONEY, "intentId": "pi_1", "providerId": "re_1", "kind": "Refund",
    },
    EventType.ORDER_RETRIED: ORDER,
    EventType.REFUND_REQUESTED: {
        **ORDER, **MONEY, "refundId": UUID, "name": "returned", "reason": "Returned", "items": ITEMS,
        "restocked": True,
    },
    EventType.ORDER_SHIPPED: {
        **ORDER, "carrier": "Post", "service": "Priority", "trackingCode": "P1",
        "trackingUrl": "https://post.example/P1",
    },
    EventType.SHIPMENT_CANCELLED: {**ORDER, "trackingCode": "P1", "void": "Submitted"},
    EventType.ORDER_DELIVERED: {**ORDER, "trackingCode": "P1"},
    EventType.ORDER_RETURNED: {**ORDER, "trackingCode": "P1", "settledByHand": False},
    EventType.ORDER_FAILED: {**ORDER, **WHY},
    EventType.ORDER_CANCELLED: {**ORDER, **WHY},
}  # fmt: skip


def headers_of(type_: EventType) -> dict[str, Any]:
    """Of a CloudEvent: what tells twice and what comes first, whatever the topic."""
    return {
        "ce_specversion": "1.0",
        "ce_type": type_.value,
        "ce_id": match.regex(UUID, regex=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        "ce_source": match.regex("/orderplane/demo", regex=r"/orderplane/.+"),
        "ce_sequence": match.regex("1", regex=r"[1-9]\d*"),
        "ce_time": match.regex("2026-03-01T12:15:00Z", regex=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    }


def understand(body: str | bytes | None, metadata: dict[str, object]) -> None:
    """What every consumer does with an event before anything else."""
    assert body is not None
    event = json.loads(body)
    assert event["merchant"]
    assert metadata["ce_id"]
    assert int(str(metadata["ce_sequence"])) > 0
    assert event.keys() >= WANTED[EventType(str(metadata["ce_type"]))].keys()


def test_what_a_consumer_relies_on() -> None:
    pact = Pact(CONSUMER, TOPICS).with_specification("V4")
    for type_, payload in WANTED.items():
        interaction = pact.upon_receiving(type_.value, "Async")
        interaction.with_body(match.like(payload), "application/json")
        interaction.with_metadata(headers_of(type_))
    pact.verify(understand, "Async")
    keep(pact, CONSUMER)


def test_a_consumer_may_rely_on_every_type() -> None:
    assert set(WANTED) == set(EventType)


@pytest.mark.integration
async def test_the_ledgers_events_keep_the_pact(plane: Plane) -> None:
    async with open_ledgers(plane.postgres_dsn) as ledgers:
        rows = {row["type"]: dict(row) for row in await ledgers.live()}

    async def tell(request: web.Request) -> web.Response:
        row = rows[(await request.json())["description"]]
        record = to_record({**row, "data": json.dumps(row["data"])})
        metadata = {name: value.decode() for name, value in record.headers}
        told = {"Pact-Message-Metadata": base64.b64encode(json.dumps(metadata).encode()).decode()}
        return web.Response(body=record.value, content_type="application/json", headers=told)

    async with listening(tell) as port:
        verifier = Verifier(TOPICS, host="127.0.0.1")
        verifier.add_transport(protocol="message", port=port, path="/")
        verifier.add_source(FOLDER / f"{CONSUMER}.json")
        await kept(verifier)
