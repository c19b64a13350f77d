"""Routes to quote, place, read, list and cancel orders."""

from enum import StrEnum
from functools import partial
from typing import Annotated, cast

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from orderplane.crds.api_errors import Gone, Invalid, NotFound
from orderplane.crds.documents import Manifest, OrderDocument
from orderplane.crds.meta import CANCELLED_BY_ANNOTATION, Kind
from orderplane.gateway import idempotency
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.cursors import invalid_cursor, read_cursor, write_cursor
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
    Cursor,
    IfNoneMatch,
    body_doc,
    keyed_doc,
    protected_docs,
)
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import idempotent_response, json_response, tagged_response, weak_etag
from orderplane.gateway.idempotent_create import CreateRequest
from orderplane.gateway.orders import cancellation, views
from orderplane.gateway.orders.filters import (
    MAX_ORDERS,
    CreatedAfter,
    CreatedBefore,
    CustomerFilter,
    PhaseFilter,
    ReasonFilter,
    ReferenceFilter,
    SkuFilter,
    StalledFilter,
    criteria_of,
    written,
)
from orderplane.gateway.orders.listing import (
    ListPosition,
    OrderFilter,
    cursor_state,
    filtered_page,
    position_of,
)
from orderplane.gateway.orders.order_reader import order_not_found
from orderplane.gateway.orders.requests import (
    IMMUTABLE_FIELDS,
    OrderRequest,
    QuoteRequest,
    build_order,
    check_reservation,
    quote_request,
)
from orderplane.gateway.orders.timeline import TimelineView, timeline_view
from orderplane.gateway.principal import Principal, Scope, allowed, check_scopes
from orderplane.gateway.services import ServicesDep
from orderplane.ledgers.postgres.idempotency import IdempotencyKey, StoredResponse
from orderplane.ledgers.pricing import RefusalCode

router = APIRouter(tags=["orders"])


class Expansion(StrEnum):
    """What an order is shown with where that is asked for."""

    ADDRESS = "address"


_CURSOR = "orders"
_Reader = Annotated[Principal, Depends(allowed(Scope.ORDERS_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.ORDERS_WRITE))]
_PriceReader = Annotated[Principal, Depends(allowed(Scope.PRODUCTS_READ))]

_REFUSALS = tuple(code.value for code in RefusalCode)


@router.post(
    "/api/quotes",
    summary="Quote an order",
    responses={
        200: {"model": views.QuoteView, "description": "What the order would cost now."},
        **protected_docs(*BODY_PROBLEMS, *_REFUSALS),
    },
    openapi_extra=body_doc("QuoteRequest"),
)
async def quote_order(request: Request, caller: _PriceReader, services: ServicesDep) -> Response:
    """Price the items with shipping and tax, and order nothing.

    Prices are kept for nobody. Who sends the total as `expectedTotal` of the order pays it, or the order is
    refused (`price_changed`).
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), QuoteRequest).request
    quote = await quote_request(
        services.product_reads, services.stored_prices, services.charge_limits, caller.merchant, wanted
    )
    return json_response(quote.model_dump(mode="json", by_alias=True))


@router.post(
    "/api/orders",
    status_code=202,
    summary="Place an order",
    responses={
        202: {
            "model": views.AcceptedView,
            "description": "The order is accepted and will be processed.",
            "headers": {
                "Location": {"description": "The order.", "schema": {"type": "string"}},
                **REPLAYED_HEADER,
            },
        },
        **protected_docs(
            *BODY_PROBLEMS, *KEY_PROBLEMS, "price_changed", "reservation_not_held", "reservation_differs",
            "request_in_progress", "request_expired", "order_name_taken", "order_refused", "no_namespace",
            *_REFUSALS,
        ),
    },
    openapi_extra=keyed_doc("OrderRequest"),
)  # fmt: skip
async def place_order(request: Request, caller: _Writer, services: ServicesDep) -> Response:
    """Price the items and accept the order.

    If a request is not answered, repeat it with the same key and body within a day: there will be one order,
    and the same answer, byte for byte. A refused request leaves its key unused.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), OrderRequest)
    order = body.request.of_customer(caller.customer)
    if order.reservation is not None:
        check_scopes(caller, Scope.INVENTORY_WRITE)
    name = idempotency.order_name(caller.merchant, caller.name, key)

    async def admit_and_build() -> Manifest:
        # Only new orders are refused here: IdempotentCreate still resumes or replays a repeat.
        services.load_shedding.admit()
        if order.reservation is not None:
            held = await services.inventory.reservation_named(caller.merchant, order.reservation)
            check_reservation(held, order)
        return await build_order(
            services.product_reads,
            services.stored_prices,
            services.charge_limits,
            caller.merchant,
            name,
            order,
        )

    outcome = await services.idempotent_create.execute(
        IdempotencyKey(caller.merchant, caller.name, idempotency.hash_key(key)),
        idempotency.fingerprint(body.document),
        CreateRequest(
            Kind.ORDER,
            IMMUTABLE_FIELDS,
            build=admit_and_build,
            discard=services.load_shedding.give_back,
            respond=partial(_accepted, name),
            on_created=services.orders.remember,
        ),
    )
    return idempotent_response(outcome, f"/api/orders/{name}")


@router.get(
    "/api/orders/{order_id}",
    summary="Read an order",
    responses={
        200: {"model": views.OrderView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("order_not_found"),
    },
)
async def read_order(
    order_id: str,
    caller: _Reader,
    services: ServicesDep,
    expand: Annotated[
        Expansion | None,
        Query(description="With `address`, the answer also has it. It needs the scope `orders:address`."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The current state of the order. It may lag by a moment."""
    if expand is Expansion.ADDRESS:
        check_scopes(caller, Scope.ORDERS_ADDRESS)
        order = await services.orders.read_whole(caller, order_id)
        view = views.addressed_view(order)
    else:
        order = await services.orders.read(caller, order_id)
        view = views.order_view(order)
    return tagged_response(if_none_match, view, weak_etag(order["metadata"]["resourceVersion"]))


@router.get(
    "/api/orders/{order_id}/timeline",
    summary="Read what happened to an order",
    responses={
        200: {"model": TimelineView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("order_not_found"),
    },
)
async def read_timeline(
    order_id: str,
    caller: _Reader,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """All phases and events of the order, its compensation, and the providers' ids.

    It is read from the ledgers, so it may be a moment ahead of the order's phase. Customers see the ids of
    refunds and the tracking code, which a bank and the carrier can look up; the ids of the payment and of the
    shipment are shown to the shop only.
    """
    order = await services.orders.read(caller, order_id)
    uid = order["metadata"]["uid"]
    timeline = await services.timelines.read(caller.merchant, uid)
    compensation = await services.gates.compensation(caller.merchant, uid)
    own_actor = caller.actor if caller.customer is not None else None
    view = timeline_view(order, timeline, compensation, own_actor=own_actor)
    return tagged_response(if_none_match, view)


@router.get(
    "/api/orders",
    summary="List orders",
    responses={
        200: {"model": views.OrderListView},
        **protected_docs("invalid_cursor", "cursor_expired", "validation_failed"),
    },
)
async def list_orders(
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=MAX_ORDERS, description="Orders per page.")] = 50,
    cursor: Cursor = None,
    phase: PhaseFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    sku: SkuFilter = None,
    customer: CustomerFilter = None,
    reference: ReferenceFilter = None,
    stalled: StalledFilter = None,
    reason: ReasonFilter = None,
) -> Response:
    """All orders of the merchant, or of the calling customer, the newest first. A new or changed order may be
    missing for a moment. Orders that are in the cluster and that the gateway does not hold in memory come
    last, by id; for some seconds after its start they come first.

    With `createdAfter`, `createdBefore` or `sku`, at most 1,000 orders are searched for one page. So a page
    may have fewer orders than `limit`, or none, and still have a `next`: go on until it is null. A cursor
    expires after some minutes (410): then start from the beginning.
    """
    criteria = criteria_of(caller, customer, phase, reference, stalled, reason)
    filters = {
        "customer": customer,
        "reference": reference,
        "phase": criteria.phase,
        "reason": reason,
        "stalled": None if stalled is None else str(stalled),
        "since": written(created_after),
        "until": written(created_before),
        "sku": sku,
    }

    start = position_of(read_cursor(_CURSOR, cursor), filters) if cursor is not None else ListPosition()
    order_filter = OrderFilter(created_after, created_before, sku)
    read_chunk = services.orders.chunks(caller, criteria, order_filter)
    try:
        orders, following = await filtered_page(read_chunk, order_filter, limit, start)
    except Gone:
        raise Problem("cursor_expired", "The list has moved on. Begin anew, without `cursor`.") from None
    except Invalid:
        raise invalid_cursor() from None
    return json_response(
        {
            "items": [views.order_view(order) for order in orders],
            "next": write_cursor(_CURSOR, cursor_state(following, filters)) if following else None,
        }
    )


@router.post(
    "/api/orders/{order_id}/cancel",
    status_code=202,
    summary="Cancel an order",
    responses={
        200: {"model": views.OrderView, "description": "The order was cancelled before."},
        202: {
            "model": views.OrderView,
            "description": "The request is recorded; the order will be compensated.",
        },
        **protected_docs("order_not_found", "too_late_to_cancel", "already_finished", "write_conflict"),
    },
)
async def cancel_order(order_id: str, caller: _Writer, services: ServicesDep) -> Response:
    """Cancel an order: its payment is refunded and its stock released. Repeating the request has no effect.

    It is possible until the carrier has scanned the parcel. If a scan comes before the cancellation is
    complete, the order is delivered, and its condition `Cancelled=False` gives the reason.
    """
    found = await services.orders.find(caller, order_id)
    order, uid = found.document, found.document["metadata"]["uid"]
    action = cancellation.cancel_action(order, await services.gates.read(caller.merchant, uid))
    if action is cancellation.CancelAction.REQUEST and not found.has_left:
        # The uid makes the patch fail if another order has been created under this name.
        metadata = {"uid": uid, "annotations": {CANCELLED_BY_ANNOTATION: caller.actor}}
        patch = {"metadata": metadata, "spec": {"cancel": True}}
        try:
            patched = await services.api.merge_patch(Kind.ORDER, caller.merchant, order_id, patch)
        except NotFound:
            found = await services.orders.find(caller, order_id)
            if not found.has_left:
                raise order_not_found() from None
        else:
            order = cast("OrderDocument", patched)
            services.orders.remember(order)
    if action is cancellation.CancelAction.REQUEST and found.has_left:
        gate = await services.cancellations.request(caller.merchant, uid, actor=caller.actor)
        # A scan may have been faster.
        action = cancellation.cancel_action(order, gate)
        order = cancellation.as_requested(order)
    status = 200 if action is cancellation.CancelAction.ALREADY_CANCELLED else 202
    location = {"Location": f"/api/orders/{order_id}"}
    return json_response(views.order_view(order), status=status, headers=location)


async def _accepted(name: str, uid: str, manifest: Manifest) -> StoredResponse:
    # Sorted keys: jsonb does not keep their order, and a resumed request must give the same bytes.
    view = views.accepted_view(name, uid, manifest["spec"]["quote"])
    return StoredResponse(202, orjson.dumps(view, option=orjson.OPT_SORT_KEYS).decode())
