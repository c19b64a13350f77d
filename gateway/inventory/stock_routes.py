"""Routes to read stock and its movements, and to adjust and recount it."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from orderplane.gateway import idempotency
from orderplane.gateway.http.body import check_media_type, is_sku, read_body
from orderplane.gateway.http.cursors import cut_page, read_after, read_before
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
    Cursor,
    IfNoneMatch,
    keyed_doc,
    protected_docs,
)
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import idempotent_response, json_response, tagged_response
from orderplane.gateway.idempotent_create import key_reused
from orderplane.gateway.inventory import views
from orderplane.gateway.inventory.requests import AdjustmentRequest, RecountRequest
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.products.routes import not_found as product_not_found
from orderplane.gateway.services import Services, ServicesDep
from orderplane.ledgers.postgres.idempotency import Effect, IdempotencyKey, KeyReused, StoredResponse
from orderplane.ledgers.postgres.inventory import (
    Recount,
    StockConflict,
    StockNotCounted,
    StockReserved,
    adjust,
    retry_on_conflict,
    set_count,
)
from orderplane.ledgers.postgres.session import Connection

router = APIRouter(tags=["inventory"])

_STOCK_CURSOR, _MOVEMENT_CURSOR = "inventory", "movements"
_Reader = Annotated[Principal, Depends(allowed(Scope.INVENTORY_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.INVENTORY_WRITE))]


@router.get(
    "/api/inventory",
    summary="List stocks",
    responses={
        200: {"model": views.LevelListView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("invalid_cursor", "validation_failed"),
    },
)
async def list_stocks(
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Stocks per page.")] = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The stock of every product that was ever counted, by SKU."""
    after = read_after(_STOCK_CURSOR, cursor)
    rows = await services.inventory.levels(caller.merchant, after=after, limit=limit + 1)
    page, following = cut_page(rows, limit, _STOCK_CURSOR, lambda last: {"after": last.sku})
    items = [views.level_view(level) for level in page]
    return tagged_response(if_none_match, {"items": items, "next": following})


@router.get(
    "/api/inventory/{sku}",
    summary="Read a stock",
    responses={
        200: {"model": views.LevelView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("stock_not_found"),
    },
)
async def read_stock(
    sku: str, caller: _Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """How many pieces of one product are on hand, reserved and available."""
    level = await services.inventory.level(caller.merchant, _valid_sku(sku))
    if level is None:
        raise _never_counted()
    return tagged_response(if_none_match, views.level_view(level))


@router.get(
    "/api/inventory/{sku}/movements",
    summary="List a stock's movements",
    responses={
        200: {"model": views.MovementListView},
        **protected_docs("invalid_cursor", "validation_failed", "stock_not_found"),
    },
)
async def list_movements(
    sku: str,
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Movements per page.")] = 50,
    cursor: Cursor = None,
) -> Response:
    """All movements of this stock, newest first. New movements do not shift the pages."""
    before = read_before(_MOVEMENT_CURSOR, cursor)
    rows = await services.inventory.movements(
        caller.merchant, _valid_sku(sku), before=before, limit=limit + 1
    )
    if not rows and await services.inventory.level(caller.merchant, sku) is None:
        raise _never_counted()
    page, following = cut_page(rows, limit, _MOVEMENT_CURSOR, lambda last: {"before": str(last.id)})
    items = [views.movement_view(movement) for movement in page]
    return json_response({"items": items, "next": following})


@router.post(
    "/api/inventory/{sku}/adjustments",
    summary="Adjust a stock",
    responses={
        200: {"model": views.CountView, "headers": REPLAYED_HEADER},
        **protected_docs("stock_not_found", "stock_reserved", *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("AdjustmentRequest"),
)
async def adjust_stock(request: Request, sku: str, caller: _Writer, services: ServicesDep) -> Response:
    """Add a delivery, or remove what is gone, but never reserved stock.

    If reserved stock is gone too, recount: then orders and reservations lose it. A refused request leaves its
    key unused.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), AdjustmentRequest)
    change = body.request

    async def effect(connection: Connection) -> StoredResponse:
        try:
            count = await adjust(
                connection,
                caller.merchant,
                _valid_sku(sku),
                change.delta,
                note=change.reason,
                actor=caller.actor,
            )
        except StockNotCounted:
            raise _never_counted() from None
        except StockReserved as refusal:
            raise Problem(
                "stock_reserved",
                f"Only {refusal.free} are free, the rest is held for orders and reservations. If that is "
                "gone too, recount.",
            ) from None
        return _count_response(sku, count)

    return await _idempotent_effect(services, caller, key, ["adjust", sku, body.document], effect)


@router.post(
    "/api/inventory/{sku}/recounts",
    summary="Recount a stock",
    responses={
        200: {"model": views.CountView, "headers": REPLAYED_HEADER},
        **protected_docs("product_not_found", "stock_raced", *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("RecountRequest"),
)
async def recount_stock(request: Request, sku: str, caller: _Writer, services: ServicesDep) -> Response:
    """Set the counted quantity. Reservations beyond it are lost: unpaid ones first, then paid ones, the
    newest of each first. Orders that lose their stock are compensated.

    The first recount of a product creates its stock. It needs a key, because the same count an hour later
    would bring back what was sold in the meantime.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), RecountRequest)
    change = body.request
    if not is_sku(sku) or not (await services.products.find(caller.merchant, [sku])).products:
        raise product_not_found()

    async def effect(connection: Connection) -> StoredResponse:
        count = await set_count(
            connection, caller.merchant, sku, change.on_hand, note=change.reason, actor=caller.actor
        )
        return _count_response(sku, count)

    try:
        return await retry_on_conflict(
            lambda: _idempotent_effect(services, caller, key, ["recount", sku, body.document], effect)
        )
    except StockConflict:
        raise Problem("stock_raced", "Nothing was changed. Repeat the request.") from None


async def _idempotent_effect(
    services: Services, caller: Principal, key: str, identity: list[Any], effect: Effect
) -> Response:
    ref = IdempotencyKey(caller.merchant, caller.name, idempotency.hash_key(key))
    try:
        return idempotent_response(
            await services.idempotency.once(ref, idempotency.fingerprint(identity), effect)
        )
    except KeyReused:
        raise key_reused() from None
    finally:
        services.availability.expire(caller.merchant)


def _count_response(sku: str, count: Recount) -> StoredResponse:
    return StoredResponse(200, orjson.dumps(views.count_view(sku, count)).decode())


def _valid_sku(sku: str) -> str:
    """A SKU from a path; text that cannot be one was never counted."""
    if not is_sku(sku):
        raise _never_counted()
    return sku


def _never_counted() -> Problem:
    return Problem("stock_not_found", "There is no stock of this SKU. A recount of the product begins one.")
