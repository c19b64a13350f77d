"""Routes to test a webhook endpoint, to read what became of its deliveries, and to replay them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from orderplane.gateway import idempotency
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.cursors import MAX_CURSOR, cut_page, invalid_cursor, read_cursor
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
    closed,
    keyed_doc,
    protected_docs,
)
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response
from orderplane.gateway.principal import Principal
from orderplane.gateway.services import ServicesDep
from orderplane.gateway.webhook_endpoints import views
from orderplane.gateway.webhook_endpoints.requests import ReplayRequest
from orderplane.gateway.webhook_endpoints.routes import (
    Reader,
    Writer,
    checked_id,
    endpoint_of,
    not_found,
    once,
    response_of,
)
from orderplane.ledgers.postgres.idempotency import StoredResponse
from orderplane.ledgers.postgres.session import Connection
from orderplane.ledgers.postgres.webhook_endpoints import (
    DeliveryFilter,
    add_test,
    find_delivery,
    find_endpoint,
    replay,
    replay_one,
)
from orderplane.ledgers.webhook_endpoints import DeliveryState, WebhookEndpoint

router = APIRouter(tags=["webhook endpoints"])

_CURSOR = "event deliveries"


@router.post(
    "/api/webhook-endpoints/{endpoint_id}/tests",
    status_code=202,
    summary="Test a webhook endpoint",
    responses={
        202: {"model": views.DeliveryLogView, "headers": REPLAYED_HEADER},
        **protected_docs("endpoint_not_found", *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc(),
)
async def test_webhook_endpoint(
    request: Request, endpoint_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Send an event of type `endpoint.test`, signed as all others, also to a disabled endpoint.

    Read its delivery by `eventId` to see what became of it.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))

    async def effect(connection: Connection) -> StoredResponse:
        await _required(connection, caller, endpoint_id)
        event_id = await add_test(connection, caller.merchant, endpoint_id)
        return await _accepted(connection, caller, endpoint_id, event_id)

    return await once(services, caller, key, ["test", endpoint_id], effect)


@router.get(
    "/api/webhook-endpoints/{endpoint_id}/deliveries",
    summary="List a webhook endpoint's deliveries",
    responses={
        200: {"model": views.DeliveryListView},
        **protected_docs("invalid_cursor", "validation_failed", "endpoint_not_found"),
    },
)
async def list_deliveries(
    endpoint_id: str,
    caller: Reader,
    services: ServicesDep,
    state: Annotated[
        DeliveryState | None,
        Query(
            description="Only those in this state.", json_schema_extra=closed("DeliveryState", DeliveryState)
        ),
    ] = None,
    type_: Annotated[
        str | None, Query(alias="type", max_length=64, description="Only those of events of this type.")
    ] = None,
    order: Annotated[
        str | None, Query(max_length=253, description="Only those of events of this order, by its id.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Deliveries per page.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR, description="`next` of the last page; keep the filters.")
    ] = None,
) -> Response:
    """The delivery log: what became of each event, those of the newest events first."""
    if any("\0" in text for text in (type_, order) if text):
        raise Problem("validation_failed", "There is no such text.")
    before = _read_position(cursor)
    await endpoint_of(services, caller, endpoint_id)
    found = await services.webhook_endpoints.deliveries(
        caller.merchant, endpoint_id, DeliveryFilter(state, type_, order), before=before, limit=limit + 1
    )
    page, following = cut_page(
        found,
        limit,
        _CURSOR,
        lambda last: {"at": last.created_at.isoformat(), "event": str(last.event_id)},
    )
    return json_response({"items": [views.delivery_view(each) for each in page], "next": following})


@router.get(
    "/api/webhook-endpoints/{endpoint_id}/deliveries/{event_id}",
    summary="Read a delivery",
    responses={200: {"model": views.DeliveryLogView}, **protected_docs("delivery_not_found")},
)
async def read_delivery(endpoint_id: str, event_id: str, caller: Reader, services: ServicesDep) -> Response:
    """What is sent for one event, and every attempt, with the beginning of its answer."""
    delivery = await services.webhook_endpoints.delivery(
        caller.merchant, checked_id(endpoint_id), _event_id(event_id)
    )
    if delivery is None:
        raise _no_delivery()
    return json_response(views.delivery_log_view(delivery))


@router.post(
    "/api/webhook-endpoints/{endpoint_id}/deliveries/{event_id}/replay",
    status_code=202,
    summary="Replay a delivery",
    responses={
        202: {"model": views.DeliveryLogView, "headers": REPLAYED_HEADER},
        **protected_docs("endpoint_not_found", "delivery_not_found", "endpoint_disabled", *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc(),
)
async def replay_delivery(
    request: Request, endpoint_id: str, event_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Send one event again, whatever became of it. One that waits anyway is left alone."""
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))

    async def effect(connection: Connection) -> StoredResponse:
        await _required_enabled(connection, caller, endpoint_id)
        await replay_one(connection, caller.merchant, endpoint_id, _event_id(event_id))
        return await _accepted(connection, caller, endpoint_id, _event_id(event_id))

    return await once(services, caller, key, ["replay", endpoint_id, event_id], effect)


@router.post(
    "/api/webhook-endpoints/{endpoint_id}/replays",
    status_code=202,
    summary="Replay a time range",
    responses={
        202: {"model": views.ReplayView, "headers": REPLAYED_HEADER},
        **protected_docs("endpoint_not_found", "endpoint_disabled", *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("DeliveryReplayRequest"),
)
async def replay_deliveries(
    request: Request, endpoint_id: str, caller: Writer, services: ServicesDep
) -> Response:
    """Send the parked deliveries of a time range again, such as a day on which the receiver was away."""
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), ReplayRequest)
    since, until = body.request.range

    async def effect(connection: Connection) -> StoredResponse:
        await _required_enabled(connection, caller, endpoint_id)
        count = await replay(
            connection, caller.merchant, endpoint_id, since=since, until=until, states=body.request.states
        )
        return response_of(202, {"replayed": count})

    return await once(services, caller, key, ["replays", endpoint_id, body.document], effect)


async def _required(connection: Connection, caller: Principal, endpoint_id: str) -> WebhookEndpoint:
    endpoint = await find_endpoint(connection, caller.merchant, checked_id(endpoint_id))
    if endpoint is None:
        raise not_found()
    return endpoint


async def _required_enabled(connection: Connection, caller: Principal, endpoint_id: str) -> None:
    if (await _required(connection, caller, endpoint_id)).disabled_at is not None:
        raise Problem(
            "endpoint_disabled",
            "Enable it first, by a PATCH with enabled: true; then replay what it has missed.",
        )


async def _accepted(
    connection: Connection, caller: Principal, endpoint_id: str, event_id: UUID
) -> StoredResponse:
    delivery = await find_delivery(connection, caller.merchant, endpoint_id, event_id)
    if delivery is None:
        raise _no_delivery()
    return response_of(202, views.delivery_log_view(delivery))


def _read_position(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    state = read_cursor(_CURSOR, cursor)
    try:
        at = datetime.fromisoformat(state["at"] or "")
        event = UUID(state["event"] or "")
    except ValueError:
        raise invalid_cursor() from None
    if at.tzinfo is None:
        raise invalid_cursor()
    return at, event


def _event_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _no_delivery() from None


def _no_delivery() -> Problem:
    return Problem(
        "delivery_not_found",
        "This endpoint has no delivery of such an event. They are kept for 30 days; "
        "GET /api/webhook-endpoints/{endpoint_id}/deliveries lists them.",
    )
