"""Routes that show orders as they change, by Server-Sent Events."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from orderplane.crds.documents import OrderDocument
from orderplane.gateway.http.documentation import protected_docs
from orderplane.gateway.http.event_stream import EventStreamResponse
from orderplane.gateway.http.problems import Problem
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
)
from orderplane.gateway.orders.held_orders import Criteria
from orderplane.gateway.orders.listing import ListPosition, OrderFilter, filtered_page
from orderplane.gateway.orders.order_changes import Position
from orderplane.gateway.orders.order_feed import Interest
from orderplane.gateway.orders.order_streams import Wanted
from orderplane.gateway.orders.views import StreamEventView
from orderplane.gateway.principal import Principal, Scope, allowed, token_check
from orderplane.gateway.services import ServicesDep

router = APIRouter(tags=["orders"])

MAX_SECONDS = 3_600

_Reader = Annotated[Principal, Depends(allowed(Scope.ORDERS_READ))]
_Seconds = Annotated[
    int,
    Query(
        alias="timeoutSeconds",
        ge=0,
        le=MAX_SECONDS,
        description="The stream ends after so many seconds, or with its token; with 0 after the state.",
    ),
]
_LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The `id` of the last event, of any gateway: the stream goes on after it.",
    ),
]

_EXAMPLE = (
    "retry: 2000\n"
    "\n"
    "event: reset\n"
    'data: {"code":"started","detail":"The orders follow as they are now."}\n'
    "\n"
    "event: order\n"
    'data: {"id":"o-mfrggzdfmztwq2lknnwg23tpoa","phase":"Pending", ...}\n'
    "\n"
    "event: synced\n"
    "id: 48213-9b1f03a4\n"
    "data: {}\n"
    "\n"
    "event: order\n"
    "id: 48219-9b1f03a4\n"
    'data: {"id":"o-mfrggzdfmztwq2lknnwg23tpoa","phase":"Reserved", ...}\n'
    "\n"
    ": \n"
    "id: 48244-d07c5512\n"
    "\n"
    "event: end\n"
    'data: {"code":"invalid_token","detail":"The token has expired."}\n'
    "\n"
)

_STREAM_DOC: dict[str, Any] = {
    "description": "Server-Sent Events; the schema is of one of them.\n\n"
    "- `reset`: forget what you know; the state follows. `code` is `started`, or `too_old` where what has "
    "happened since `Last-Event-ID` is not known any more.\n"
    "- `order`: an order (`OrderView`) as it is from now on. With an `id` it is a change, and every change "
    "comes once, in order; without one it is part of the state. A client that comes back just after `synced` "
    "may hear once more of what the state has shown.\n"
    "- `synced`: the state is complete; from now on changes come.\n"
    "- `gone`: the order `id` has left the cluster, or does not match `phase` or `stalled` any more. It may "
    "name an order that was not shown.\n"
    "- `end`: the stream ends. `code` is `timeout`; `leaving`: connect again; `invalid_token`: the token has "
    "expired or its login has ended.\n\n"
    "After 15 seconds without an event there is a comment, which may move the `id` on. There may be other "
    "events later: ignore them.\n\n"
    f"```\n{_EXAMPLE}```",
    "model": StreamEventView,
    "headers": {
        "X-Accel-Buffering": {
            "description": "`no`: tells nginx to pass events on at once.",
            "schema": {"type": "string"},
        }
    },
}


@router.get(
    "/api/orders/watch",
    summary="Watch orders",
    status_code=200,
    response_class=EventStreamResponse,
    responses={200: _STREAM_DOC, **protected_docs("too_many_streams")},
)
async def watch_orders(
    request: Request,
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[
        int, Query(ge=0, le=MAX_ORDERS, description="The most orders of a state: the newest ones.")
    ] = 50,
    phase: PhaseFilter = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    sku: SkuFilter = None,
    customer: CustomerFilter = None,
    reference: ReferenceFilter = None,
    stalled: StalledFilter = None,
    reason: ReasonFilter = None,
    timeout_seconds: _Seconds = MAX_SECONDS,
    last_event_id: _LastEventId = None,
) -> Response:
    """The newest orders of the merchant, or of the calling customer, and every change of all that match.

    The state is a page of the list (`GET /api/orders`), the oldest first. Changes come also of orders that
    are not on it. Some changes alter nothing that is shown.

    Who does not read is cut off, and so is who connects too often; both go on by `Last-Event-ID`. One caller
    may have 200 streams open at a gateway, a customer 10.
    """
    criteria = criteria_of(caller, customer or caller.customer, phase, reference, stalled, reason)
    order_filter = OrderFilter(created_after, created_before, sku)

    async def state() -> Sequence[OrderDocument]:
        if not limit:
            return []
        read_chunk = services.orders.chunks(caller, criteria, order_filter)
        orders, _ = await filtered_page(read_chunk, order_filter, limit, ListPosition())
        return orders

    interest = Interest(caller.merchant, None, criteria, order_filter)
    wanted = Wanted(interest, _position(last_event_id), timeout_seconds)
    return services.order_streams.open(caller, token_check(request), wanted, state)


@router.get(
    "/api/orders/{order_id}/watch",
    summary="Watch an order",
    status_code=200,
    response_class=EventStreamResponse,
    responses={200: _STREAM_DOC, **protected_docs("order_not_found", "too_many_streams")},
)
async def watch_order(
    request: Request,
    order_id: str,
    caller: _Reader,
    services: ServicesDep,
    timeout_seconds: _Seconds = MAX_SECONDS,
    last_event_id: _LastEventId = None,
) -> Response:
    """The order as it is, and again with every change. The stream goes on when the order is finished: it may
    be refunded later. Some changes alter nothing that is shown.
    """
    await services.orders.read(caller, order_id)

    async def state() -> Sequence[OrderDocument]:
        try:
            return [await services.orders.read(caller, order_id)]
        except Problem as problem:
            if problem.type.code == "order_not_found":
                return []
            raise

    interest = Interest(caller.merchant, order_id, Criteria(caller.customer))
    wanted = Wanted(interest, _position(last_event_id), timeout_seconds)
    return services.order_streams.open(caller, token_check(request), wanted, state)


def _position(last_event_id: str | None) -> Position | None:
    """Where the client was. An id that cannot be read is one that is not known: the client begins anew."""
    if not last_event_id:
        return None
    return Position.parse(last_event_id) or Position(0, "")
