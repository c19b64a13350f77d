"""Routes for those who run the shop: how it goes, what failed, and who did what."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from orderplane.events.notifications import Channel
from orderplane.gateway.http.cursors import cut_page, invalid_cursor, read_before, read_cursor, write_cursor
from orderplane.gateway.http.documentation import Cursor, protected_docs
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import json_response
from orderplane.gateway.operations import views
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.services import ServicesDep

router = APIRouter(tags=["operations"])

_MESSAGE_CURSOR, _ACTION_CURSOR = "failed-messages", "actions"
_Reader = Annotated[Principal, Depends(allowed(Scope.OPERATIONS_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.OPERATIONS_WRITE))]


@router.get(
    "/api/overview",
    summary="Read how the orders go",
    responses={200: {"model": views.OverviewView}, **protected_docs()},
)
async def read_overview(caller: _Reader, services: ServicesDep) -> Response:
    """Orders by phase, the last hour minute by minute, and what waits or failed.

    It is counted over the orders that this gateway holds in memory, which are the newest
    (`ORDERPLANE_HELD_ORDERS`); for the last hour, over the newest 20,000 of them. Times of orders have whole
    seconds.
    """
    return json_response(await services.overview.read(caller.merchant))


@router.get(
    "/api/failed-messages",
    summary="List messages that failed",
    responses={
        200: {"model": views.MessageListView},
        **protected_docs("invalid_cursor", "validation_failed"),
    },
)
async def list_failed_messages(
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Messages per page.")] = 50,
    cursor: Cursor = None,
) -> Response:
    """Messages to customers about their orders that were given up, the last ones first.

    Each is a dead letter, too. Records that nobody could read belong to no merchant: see `orderplane dlq`.
    """
    before = _time_before(cursor)
    messages = await services.messages.failed(caller.merchant, before=before, limit=limit + 1)
    page, more = messages[:limit], len(messages) > limit
    last = page[-1].ended_at if more else None
    following = write_cursor(_MESSAGE_CURSOR, {"before": last.isoformat()}) if last else None
    return json_response({"items": [views.message_view(each) for each in page], "next": following})


@router.get(
    "/api/orders/{order_id}/messages",
    summary="List an order's messages",
    responses={200: {"model": views.OrderMessagesView}, **protected_docs("order_not_found")},
)
async def list_messages(order_id: str, caller: _Reader, services: ServicesDep) -> Response:
    """The messages to the customer about this order, in the order of its events, without their text."""
    order = await services.orders.read(caller, order_id)
    messages = await services.messages.of_order(caller.merchant, order["metadata"]["uid"])
    return json_response({"items": [views.message_view(each) for each in messages]})


@router.post(
    "/api/failed-messages/{message_id}/replay",
    status_code=202,
    summary="Send a message that failed again",
    responses={
        202: {"model": views.MessageView, "description": "It is due again."},
        **protected_docs("message_not_found"),
    },
)
async def replay_message(message_id: str, caller: _Writer, services: ServicesDep) -> Response:
    """Make a message due again that was given up. Repeating the request sends nothing twice.

    If a later message of its order was sent meanwhile, this one is not sent but superseded.
    """
    event, channel = _parsed_id(message_id)
    message = await services.messages.replay(caller.merchant, event, channel, actor=caller.actor)
    if message is None:
        raise _not_found()
    return json_response(views.message_view(message), status=202)


@router.get(
    "/api/actions",
    summary="List who did what",
    responses={
        200: {"model": views.ActionListView},
        **protected_docs("invalid_cursor", "validation_failed"),
    },
)
async def list_actions(
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Actions per page.")] = 50,
    cursor: Cursor = None,
    object_: Annotated[
        str | None,
        Query(alias="object", min_length=1, max_length=300, description="Only what was done to this object."),
    ] = None,
    actor: Annotated[
        str | None, Query(min_length=1, max_length=300, description="Only what this actor did.")
    ] = None,
) -> Response:
    """What people have changed, the newest first, by whatever way: this API, `kubectl`, the CLI or SQL.

    It has orders that were cancelled, retried, refunded and settled by hand, stock that was corrected,
    products, price rules, accounts, and messages that were replayed.
    """
    before = read_before(_ACTION_CURSOR, cursor)
    actions = await services.actions.page(
        caller.merchant, before=before, object_=_plain(object_), actor=_plain(actor), limit=limit + 1
    )
    page, following = cut_page(actions, limit, _ACTION_CURSOR, lambda last: {"before": str(last.id)})
    return json_response({"items": [views.action_view(each) for each in page], "next": following})


def _plain(text: str | None) -> str | None:
    """A PostgreSQL text cannot contain U+0000."""
    return text.replace("\0", "\ufffd") if text is not None else None


def _time_before(cursor: str | None) -> datetime | None:
    if cursor is None:
        return None
    try:
        return datetime.fromisoformat(read_cursor(_MESSAGE_CURSOR, cursor)["before"] or "").astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid_cursor() from None


def _parsed_id(message_id: str) -> tuple[UUID, str]:
    event, _, channel = message_id.partition(".")
    try:
        return UUID(event), Channel(channel).value
    except ValueError:
        raise _not_found() from None


def _not_found() -> Problem:
    return Problem("message_not_found", "No message has this id. GET /api/failed-messages lists them.")
