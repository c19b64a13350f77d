"""How much there is of what, how that came about, and what was found to be otherwise."""

import re
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from orderplane.gateway import idempotency
from orderplane.gateway.http.body import check_media_type, is_sku, read_body
from orderplane.gateway.http.cursors import MAX_CURSOR, invalid_cursor, read_after, read_cursor, write_cursor
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
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
from orderplane.ledgers.postgres.recount import (
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

_LEVELS, _MOVEMENTS = "inventory", "movements"
_Reader = Annotated[Principal, Depends(allowed(Scope.INVENTORY_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.INVENTORY_WRITE))]
_Cursor = Annotated[str | None, Query(max_length=MAX_CURSOR, description="`next` of the last page.")]


@router.get(
    "/api/inventory",
    summary="List stocks",
    responses={
        200: {"model": views.LevelListView},
        304: {"description": "The page is still the one of If-None-Match."},
        **protected_docs("invalid_cursor", "validation_failed"),
    },
)
async def list_stocks(
    caller: _Reader,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="Stocks per page.")] = 50,
    cursor: _Cursor = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Every product that was ever counted, by SKU."""
    after = read_after(_LEVELS, cursor)
    rows = await services.inventory.levels(caller.merchant, after=after, limit=limit + 1)
    page = rows[:limit]
    following = write_cursor(_LEVELS, {"after": page[-1].sku}) if len(rows) > limit else None
    items = [views.level_view(level) for level in page]
    return tagged_response(if_none_match, {"items": items, "next": following})


@router.get(
    "/api/inventory/{sku}",
    summary="Read a stock",
    responses={
        200: {"model": views.LevelView},
        304: {"description": "It is still as it was at If-None-Match."},
        **protected_docs("stock_not_found"),
    },
)
async def read_stock(
    sku: str, caller: _Reader, services: ServicesDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """How many of one product are on hand, how many of those are kept for somebody, and how many are free."""
    level = await services.inventory.level(caller.merchant, _countable(sku))
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
    cursor: _Cursor = None,
) -> Response:
    """Everything that ever changed this stock, newest first; what comes in meanwhile moves no page."""
    before = _before(cursor) if cursor else None
    rows = await services.inventory.movements(
        caller.merchant, _countable(sku), before=before, limit=limit + 1
    )
    if not rows and await services.inventory.level(caller.merchant, sku) is None:
        raise _never_counted()
    page = rows[:limit]
    following = write_cursor(_MOVEMENTS, {"before": str(page[-1].id)}) if len(rows) > limit else None
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
    """Add a delivery, or take what is gone; never what is kept for somebody.

    Where that is gone too, recount: orders and reservations then lose it. A refused request leaves its key
    unused.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), AdjustmentRequest)
    wanted = body.request

    async def effect(connection: Connection) -> StoredResponse:
        try:
            count = await adjust(
                connection, caller.merchant, _countable(sku), wanted.delta, note=wanted.reason
            )
        except StockNotCounted:
            raise _never_counted() from None
        except StockReserved as refusal:
            raise Problem(
                "stock_reserved",
                f"Only {refusal.free} are free, the rest is kept for orders and reservations. Where that is "
                "gone too, recount.",
            ) from None
        return _told(sku, count)

    return await _once(services, caller, key, ["adjust", sku, body.document], effect)


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
    """Set what was counted. What was promised beyond it is lost: what is held first, then what is paid for,
    the newest of each first; orders that lose their stock are undone.

    The first count of a product begins its stock. It takes a key, because the same count an hour later would
    put back what was sold meanwhile.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), RecountRequest)
    wanted = body.request
    if not is_sku(sku) or await services.products.find(caller.merchant, sku) is None:
        raise product_not_found()

    async def effect(connection: Connection) -> StoredResponse:
        count = await set_count(connection, caller.merchant, sku, wanted.on_hand, note=wanted.reason)
        return _told(sku, count)

    try:
        return await retry_on_conflict(
            lambda: _once(services, caller, key, ["recount", sku, body.document], effect)
        )
    except StockConflict:
        raise Problem("stock_raced", "Nothing was changed. Repeat the request.") from None


def _before(cursor: str) -> int:
    text = read_cursor(_MOVEMENTS, cursor).get("before") or ""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise invalid_cursor()
    return int(text)


async def _once(
    services: Services, caller: Principal, key: str, identity: list[Any], effect: Effect
) -> Response:
    ref = IdempotencyKey(caller.merchant, caller.name, idempotency.hash_key(key))
    try:
        return idempotent_response(
            await services.idempotency.once(ref, idempotency.fingerprint(identity), effect)
        )
    except KeyReused:
        raise key_reused() from None


def _told(sku: str, count: Recount) -> StoredResponse:
    return StoredResponse(200, orjson.dumps(views.count_view(sku, count)).decode())


def _countable(sku: str) -> str:
    """A SKU from a path; what cannot be one was never counted."""
    if not is_sku(sku):
        raise _never_counted()
    return sku


def _never_counted() -> Problem:
    return Problem("stock_not_found", "There is no stock of this SKU. A recount of the product begins one.")
