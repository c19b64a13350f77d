"""Routes to refund an order after the sale, and to read its refunds."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orderplane.crds.order import Quote
from orderplane.gateway import idempotency
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
    IfNoneMatch,
    keyed_doc,
    protected_docs,
)
from orderplane.gateway.http.responses import idempotent_response, tagged_response
from orderplane.gateway.idempotent_create import key_reused
from orderplane.gateway.orders.refunds import (
    NewRefundRequest,
    RefundListView,
    RefundView,
    not_shipped,
    refund_list_view,
    refund_refused,
    refund_view,
)
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.services import ServicesDep
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.postgres.idempotency import IdempotencyKey, KeyReused, StoredResponse
from orderplane.ledgers.postgres.refunds import request_refund
from orderplane.ledgers.postgres.session import Connection
from orderplane.ledgers.refunds import new_refund

router = APIRouter(tags=["orders"])


@router.post(
    "/api/orders/{order_id}/refunds",
    status_code=201,
    summary="Refund an order",
    responses={
        201: {"model": RefundView, "headers": REPLAYED_HEADER},
        **protected_docs("order_not_found", "not_shipped", "refund_refused", *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("NewRefundRequest"),
)
async def refund_order(
    request: Request,
    order_id: str,
    caller: Annotated[Principal, Depends(allowed(Scope.REFUNDS_WRITE))],
    services: ServicesDep,
) -> Response:
    """Give money back for an order that the carrier has, and take goods back into stock.

    All refunds of an order together are never more than was paid. The answer says that the refund is decided;
    the payment provider makes it a moment later. A refused request leaves its key unused.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), NewRefundRequest)
    order = await services.orders.read_live(caller, order_id)
    uid, quote = order["metadata"]["uid"], Quote.model_validate(order["spec"]["quote"])
    limits = services.charge_limits.get(quote.currency)
    new = new_refund(
        idempotency.refund_name(caller.merchant, caller.name, key),
        body.request.reason,
        quote,
        amount=body.request.amount,
        lines=body.request.items,
        is_restocked=body.request.restock,
        step=limits.step if limits else 1,
        actor=caller.actor,
    )

    async def effect(connection: Connection) -> StoredResponse:
        try:
            made = await request_refund(connection, caller.merchant, uid, new)
        except GateClosed:
            raise not_shipped() from None
        if made.refund is None:
            raise refund_refused(made)
        return StoredResponse(201, orjson.dumps(refund_view(made, quote.currency)).decode())

    ref = IdempotencyKey(caller.merchant, caller.name, idempotency.hash_key(key))
    fingerprint = idempotency.fingerprint(["refund", uid, body.document])
    try:
        return idempotent_response(await services.idempotency.once(ref, fingerprint, effect))
    except KeyReused:
        raise key_reused() from None
    finally:
        services.availability.expire(caller.merchant)


@router.get(
    "/api/orders/{order_id}/refunds",
    summary="List an order's refunds",
    responses={
        200: {"model": RefundListView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("order_not_found"),
    },
)
async def list_refunds(
    order_id: str,
    caller: Annotated[Principal, Depends(allowed(Scope.ORDERS_READ))],
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """What was given back, or is to be, after the carrier had the order. What was given back because an order
    failed or was cancelled is in its `compensation`."""
    order = await services.orders.read(caller, order_id)
    requests = await services.refunds.of_order(caller.merchant, order["metadata"]["uid"])
    return tagged_response(if_none_match, refund_list_view(requests, order["spec"]["quote"]["currency"]))
