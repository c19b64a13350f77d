"""Routes to help an order that waits for a person: try it again, or record what was settled by hand."""

from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from orderplane.crds.api_errors import NotFound
from orderplane.crds.documents import OrderDocument
from orderplane.crds.meta import RETRIED_BY_ANNOTATION, RETRY_ANNOTATION, ApiModel, Kind
from orderplane.crds.order import FINISHED, MOST_REFERENCE
from orderplane.crds.text import Line
from orderplane.gateway.http.body import STRICT, check_media_type, read_body
from orderplane.gateway.http.documentation import BODY_PROBLEMS, body_doc, protected_docs
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response
from orderplane.gateway.orders import views
from orderplane.gateway.orders.order_reader import order_not_found
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.services import ServicesDep
from orderplane.ledgers.errors import NothingToSettle

router = APIRouter(tags=["orders"])

_Writer = Annotated[Principal, Depends(allowed(Scope.OPERATIONS_WRITE))]


class SettlementRequest(ApiModel):
    """What a person has settled outside of the providers."""

    model_config = STRICT

    reason: Annotated[
        Line,
        Field(
            min_length=1,
            max_length=200,
            description="Why it was settled by hand; no personal data.",
            examples=["card closed"],
        ),
    ]
    reference: Annotated[
        Line,
        Field(
            min_length=1,
            max_length=MOST_REFERENCE,
            description="Where it can be looked up, as the number of a bank transfer.",
            examples=["SEPA-2026-118"],
        ),
    ]


class SettlementView(TypedDict):
    """What was recorded."""

    settled: Annotated[str, Field(examples=["16.42 EUR noted as paid back by hand"])]


@router.post(
    "/api/orders/{order_id}/retry",
    status_code=202,
    summary="Try a stalled order again",
    responses={
        202: {"model": views.OrderView, "description": "It is tried now."},
        **protected_docs("order_not_found", "already_finished", "write_conflict"),
    },
)
async def retry_order(order_id: str, caller: _Writer, services: ServicesDep) -> Response:
    """Try an order at once that would be tried once a minute. One that is not stalled goes on as before."""
    order = await services.orders.read_live(caller, order_id)
    if order.get("status", {}).get("phase") in FINISHED:
        raise Problem("already_finished", "The order is finished; there is nothing to try again.")
    patch = {
        "metadata": {
            "uid": order["metadata"]["uid"],
            "annotations": {
                RETRY_ANNOTATION: datetime.now(UTC).isoformat(),
                RETRIED_BY_ANNOTATION: caller.actor,
            },
        }
    }
    try:
        patched = await services.api.merge_patch(Kind.ORDER, caller.merchant, order_id, patch)
    except NotFound:
        raise order_not_found() from None
    return json_response(views.order_view(cast("OrderDocument", patched)), status=202)


@router.post(
    "/api/orders/{order_id}/settlements",
    summary="Record what was settled by hand",
    responses={
        200: {"model": SettlementView},
        **protected_docs("order_not_found", "nothing_to_settle", *BODY_PROBLEMS),
    },
    openapi_extra=body_doc("SettlementRequest"),
)
async def settle_order(request: Request, order_id: str, caller: _Writer, services: ServicesDep) -> Response:
    """Record that a person settled what a provider refused, so that the order goes on.

    A refund that the provider refused was paid back by hand; or a label that the carrier does not take back
    was destroyed; or a parcel that came back was settled without a refund. One is recorded for each request,
    in this order. If the answer is lost, read the timeline before you repeat it.
    """
    check_media_type(request.headers.get("Content-Type"))
    wanted = read_body(await request.body(), SettlementRequest).request
    await services.orders.read_live(caller, order_id)
    try:
        settled = await services.settle_by_hand(
            caller.merchant, order_id, reason=wanted.reason, reference=wanted.reference, actor=caller.actor
        )
    except NothingToSettle as problem:
        raise Problem("nothing_to_settle", str(problem)) from None
    return json_response({"settled": settled})
